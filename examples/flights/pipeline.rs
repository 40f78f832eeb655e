//! What runs in the demo's process: topics, connectors, the Streams application; started in an order that a resumed run can repeat.
//!
//! Called by `main.rs`. It starts and stops things; what they compute is in `topology.rs`.

use std::path::Path;

use flumen::client::{Admin, Client, NewTopic};
use flumen::connect::config::Props;
use flumen::connect::registry::Registry;
use flumen::connect::worker::{Worker, WorkerConfig};
use flumen::embedded::EmbeddedBroker;
use flumen::streams::{KafkaStreams, StreamsConfig};

use crate::Failure;
use crate::postgres::PrivatePostgres;
use crate::topology::topology;

/// The running demo.
pub(crate) struct Pipeline {
    pub(crate) broker: EmbeddedBroker,
    pub(crate) worker: Worker,
    streams: KafkaStreams,
}

/// Where everything of one demo lies.
pub(crate) struct Places<'a> {
    pub(crate) home: &'a Path,
    pub(crate) data: &'a Path,
    pub(crate) output: &'a Path,
}

impl Pipeline {
    /// Starts broker, topics, worker, connectors and topology; each goes on where an earlier run of the same folder was.
    pub(crate) async fn start(
        places: &Places<'_>,
        postgres: Option<&PrivatePostgres>,
    ) -> Result<Pipeline, Failure> {
        let broker = EmbeddedBroker::start_in(&places.home.join("broker"), &[]).await?;
        let client = broker.client().await?;
        create_topics(&client).await?;

        let registry =
            flumen::connect_postgres::register(flumen::connect_file::register(Registry::new()));
        let mut config = WorkerConfig::new(&broker.bootstrap());
        config.rest = Some(([127, 0, 0, 1], 0).into());
        let worker = Worker::start(config, registry).await?;
        worker
            .put_config("flights-source", source(places.data))
            .await?;
        worker
            .put_config("carrier-delays-file", file_sink(places.output))
            .await?;
        if let Some(postgres) = postgres {
            worker
                .put_config("carrier-delays-postgres", postgres_sink(postgres))
                .await?;
        }

        let mut config = StreamsConfig::new("flights-demo", &broker.bootstrap());
        config.state_dir = places.home.join("streams");
        let streams = KafkaStreams::start(topology()?, config).await?;
        Ok(Pipeline {
            broker,
            worker,
            streams,
        })
    }

    /// Why the demo cannot end well, if something stopped by itself.
    pub(crate) async fn failure(&mut self) -> Option<String> {
        for connector in self.worker.connectors() {
            let failed = self
                .worker
                .status(&connector)
                .ok()?
                .tasks
                .into_iter()
                .find_map(|task| task.trace);
            if let Some(trace) = failed {
                return Some(format!("connector {connector}: {trace}"));
            }
        }
        if self.streams.state() == flumen::streams::StreamsState::Error {
            return Some(
                self.streams
                    .stopped()
                    .await
                    .err()
                    .map_or_else(|| "the topology stopped".to_owned(), |e| e.to_string()),
            );
        }
        None
    }

    /// Commits what is open and stops everything, the broker last.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.streams.close().await?;
        self.worker.shutdown().await;
        self.broker.stop().await;
        Ok(())
    }
}

async fn create_topics(client: &Client) -> Result<(), Failure> {
    // The records carry the timestamps of 2013: with the usual seven days the broker would delete them under the reader.
    let topic =
        |name: &str, partitions| NewTopic::new(name, partitions).config("retention.ms", "-1");
    Ok(Admin::new(client)
        .ensure_topics(&[topic("flights", 6), topic("carrier-delays", 3)])
        .await?)
}

fn props(pairs: &[(&str, &str)]) -> Props {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn source(data: &Path) -> Props {
    props(&[
        ("connector.class", "FileStreamSource"),
        ("file", &data.to_string_lossy()),
        ("mode", "load"),
        ("format", "csv"),
        (
            "csv.columns",
            "year:int64,month:int64,day:int64,dep_delay:int64,arr_delay:int64,distance:int64",
        ),
        ("timestamp.field", "time_hour"),
        ("topic", "flights"),
        (
            "value.converter",
            "org.apache.kafka.connect.json.JsonConverter",
        ),
        ("value.converter.schemas.enable", "false"),
    ])
}

fn sink(class: &str) -> Props {
    props(&[
        ("connector.class", class),
        ("topics", "carrier-delays"),
        (
            "key.converter",
            "org.apache.kafka.connect.storage.StringConverter",
        ),
        (
            "value.converter",
            "org.apache.kafka.connect.json.JsonConverter",
        ),
        ("value.converter.schemas.enable", "false"),
    ])
}

fn file_sink(output: &Path) -> Props {
    let mut sink = sink("FileStreamSink");
    sink.extend(props(&[("file", &output.to_string_lossy())]));
    sink
}

fn postgres_sink(postgres: &PrivatePostgres) -> Props {
    let mut sink = sink("PostgresSink");
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", postgres.port);
    sink.extend(props(&[
        ("connection.url", &url),
        ("table.name.format", "carrier_delays"),
        ("insert.mode", "upsert"),
        ("pk.mode", "record_value"),
        ("pk.fields", "carrier,hour"),
        ("auto.create", "true"),
        ("column.types", "carrier:text,hour:timestamptz,flights:bigint,mean_dep_delay:double precision,max_dep_delay:bigint"),
    ]));
    sink
}
