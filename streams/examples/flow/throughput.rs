//! Records a second and CPU per record of the three applications, each run in a process of its own.

mod application;

use std::process::{Command, Stdio};

use flumen_client::{Admin, Client, ClientConfig, Isolation, OffsetSpec, TopicPartition};

use crate::input::{self, PARTITIONS};
use crate::{Arguments, Failure, measure};
use application::{Application, Outcome};

/// How to run.
pub(crate) struct Options {
    pub(crate) bootstrap: String,
    pub(crate) records: u64,
    keys: Vec<i32>,
    workloads: Vec<String>,
    pub(crate) engines: usize,
    pub(crate) commit_ms: u64,
    pub(crate) at_least_once: bool,
    rounds: u32,
    state_dir: String,
}

impl Options {
    fn new(mut arguments: Arguments) -> Result<Options, Failure> {
        let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let options = Options {
            bootstrap: arguments.bootstrap()?,
            records: arguments.take("records", "3000000").parse()?,
            keys: list(arguments.take("keys", "10000,1000000"))
                .iter()
                .map(|keys| keys.parse())
                .collect::<Result<_, _>>()?,
            workloads: list(arguments.take("workloads", "stateless,windowed")),
            engines: arguments.take("engines", "1").parse()?,
            commit_ms: arguments.take("commit-ms", "100").parse()?,
            at_least_once: arguments.take("at-least-once", "false").parse()?,
            rounds: arguments.take("rounds", "1").parse()?,
            state_dir: arguments.state_dir(),
        };
        arguments.none_left()?;
        Ok(options)
    }
}

/// The process of one run: `id workload input output state-dir`, then the options.
pub(crate) async fn child(args: &[String]) -> Result<(), Failure> {
    let [id, workload, input, output, state_dir, options @ ..] = args else {
        return Err("called by the benchmark only".into());
    };
    let options = Options::new(Arguments::parse(options)?)?;
    let application = Application {
        id,
        workload,
        input,
        output,
        state_dir,
    };
    application::run(&options, &application).await
}

/// Runs everything that was asked for.
pub(crate) async fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::new(Arguments::parse(args)?)?;
    let client = Client::connect(ClientConfig::new(&options.bootstrap)).await?;
    println!(
        "topology\tguarantee\tengines\tkeys\tcommit_ms\trecords\trecords_per_s_first_to_last\trecords_per_s_start_to_closed\tms_start_to_first\toutput_records\tapp_cpu_s_per_M\tapp_rss_MB\tbroker_cpu_s_per_M"
    );
    for keys in &options.keys {
        let input = format!("flow-in-{keys}-{}", std::process::id());
        eprintln!("loading {} records, {keys} keys", options.records);
        input::load(&client, &input, options.records, *keys).await?;
        let run = Run {
            options: &options,
            client: &client,
            input: &input,
            keys: *keys,
            args,
        };
        for round in 0..options.rounds {
            for workload in &options.workloads {
                if workload != "stateless" || *keys == options.keys[0] {
                    run.measure(workload, round).await?;
                }
            }
        }
        Admin::new(&client).delete_topics(&[&input]).await?;
    }
    Ok(())
}

/// One application over one input.
struct Run<'a> {
    options: &'a Options,
    client: &'a Client,
    input: &'a str,
    keys: i32,
    args: &'a [String],
}

impl Run<'_> {
    async fn measure(&self, workload: &str, round: u32) -> Result<(), Failure> {
        let options = self.options;
        let id = format!(
            "flow-{workload}-{}-{round}-{}",
            self.keys,
            std::process::id()
        );
        let output = format!("{id}-out");
        let admin = Admin::new(self.client);
        admin
            .create_topic(&input::topic(&output, PARTITIONS))
            .await?;
        let brokers = measure::listening(&options.bootstrap);
        let before = measure::cpu_of_all(&brokers)?;
        let outcome = self.child([&id, workload, self.input, &output])?;
        let broker_cpu = measure::cpu_of_all(&brokers)?;
        let committed = admin.group_offsets(&id).await?;
        let committed: i64 = committed
            .iter()
            .filter(|(partition, _)| partition.topic == self.input)
            .map(|(_, offset)| offset)
            .sum();
        if committed != i64::try_from(options.records)? {
            return Err(format!(
                "not a result: {committed} of {} input records are committed",
                options.records
            )
            .into());
        }
        let millions = options.records as f64 / 1e6;
        let broker = match (before, broker_cpu) {
            (Some(before), Some(after)) => format!("{:.2}", (after - before) / millions),
            _ => "-".to_owned(),
        };
        println!(
            "{workload}\t{}\t{}\t{}\t{}\t{}\t{:.0}\t{:.0}\t{:.0}\t{}\t{:.2}\t{:.0}\t{broker}",
            if options.at_least_once {
                "at_least_once"
            } else {
                "exactly_once_v2"
            },
            options.engines,
            self.keys,
            options.commit_ms,
            options.records,
            outcome.per_second_first_to_last,
            outcome.per_second_start_to_closed,
            outcome.ms_start_to_first,
            self.written(&output).await?,
            outcome.cpu_seconds / millions,
            outcome.peak_memory_mb,
        );
        self.clean_up(&id).await
    }

    fn child(&self, of: [&str; 4]) -> Result<Outcome, Failure> {
        let child = Command::new(std::env::current_exe()?)
            .arg("throughput-child")
            .args(of)
            .arg(&self.options.state_dir)
            .args(self.args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .output()?;
        if !child.status.success() {
            return Err(format!("the application ended with {}", child.status).into());
        }
        Outcome::parse(&String::from_utf8(child.stdout)?)
    }

    /// The sum of the output's end offsets.
    async fn written(&self, output: &str) -> Result<i64, Failure> {
        let partitions: Vec<TopicPartition> = (0..PARTITIONS)
            .map(|partition| TopicPartition::new(output, partition))
            .collect();
        let end = OffsetSpec::Latest(Isolation::ReadUncommitted);
        let ends = Admin::new(self.client)
            .list_offsets(&partitions, end)
            .await?;
        Ok(ends.values().map(|end| end.offset).sum())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark leaves no files behind"
    )]
    async fn clean_up(&self, id: &str) -> Result<(), Failure> {
        let admin = Admin::new(self.client);
        let topics = admin.list_topics().await?;
        let mine = topics.iter().map(|topic| topic.name.as_str());
        let mine: Vec<&str> = mine.filter(|name| name.starts_with(id)).collect();
        admin.delete_topics(&mine).await?;
        let state = std::path::Path::new(&self.options.state_dir).join(id);
        Ok(std::fs::remove_dir_all(state)?)
    }
}
