//! Good inputs of each target, made by the code that writes such bytes: what mutations start from.

use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use flumen::log::disk::{Disk, OpenMode};
use flumen::log::fault_disk::FaultDisk;
use flumen::log::{AppendAs, Log, LogConfig, OpenOptions, VerificationGuard};
use flumen::protocol::api::ApiKey;
use flumen::protocol::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};
use flumen::protocol::codec::encode_prefixed;
use flumen::protocol::compression::{Compression, compress};
use flumen::protocol::message;
use flumen_protocol_generator::{Message, read_shapes};

use crate::sample::{Richness, sample};

const NOW: i64 = 1_700_000_000_000;

/// Of the target of that name.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "request" => requests(),
        "response" => responses(),
        "primitives" => vec![
            (0..200).collect(),
            vec![2; 40],
            b"\x00\x01\x04\x07abc".to_vec(),
        ],
        "batch" => batches().into_iter().map(|batch| batch.to_vec()).collect(),
        "decompress" => compressed(),
        "segment" => segments(),
        "log_dir" => log_dirs(),
        "index_files" => index_files(),
        "metadata_record" => vec![vec![1, 0, 1, 0, 0, 0, 1, b't'], vec![1, 0, 4, 0, 0]],
        "coordinator_records" => coordinator_records(),
        "members" => members(),
        "streams_values" => streams_values(),
        "connect_records" => connect_records(),
        "connect_values" => texts(&[
            r#"{"a":[1,2.5,true,null,"x"],"b":{"c":-9223372036854775808}}"#,
            r#"{"schema":{"type":"struct","fields":[{"field":"a","type":"int32"},{"field":"b","type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"optional":true}]},"payload":{"a":1,"b":"AQ=="}}"#,
            r#"{"schema":{"type":"map","keys":{"type":"string"},"values":{"type":"array","items":{"type":"int64","name":"org.apache.kafka.connect.data.Timestamp","version":1}}},"payload":{"k":[1,2]}}"#,
            r#"{"schema":null,"payload":null}"#,
        ]),
        "connect_rest" => rest(),
        "file_source" => file_source(),
        "properties" => texts(&[
            "# broker\nnode.id=1\nlisteners=PLAINTEXT://[::1]:9092\nadvertised.listeners=PLAINTEXT://host:1\nlog.dirs=/a,\\\n /b\n",
            "log.retention.hours=1\nlog.segment.bytes=1048576\nmax.connections=10\nqueued.max.request.bytes=-1\n",
            "broker.id=7\nlog.dir=x\ncompression.type=zstd\nlog.cleanup.policy=compact,delete\nlog.cleaner.min.cleanable.ratio=0.5\n",
        ]),
        _ => Vec::new(),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Pieces with their lengths in front, and what comes behind them.
fn pieces(head: &[u8], pieces: &[&[u8]], tail: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for piece in pieces {
        bytes.put_u16(u16::try_from(piece.len()).expect("a small piece"));
        bytes.put_slice(piece);
    }
    bytes.put_slice(tail);
    bytes
}

fn messages() -> Vec<Message> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/shapes");
    let shapes = read_shapes(&folder).expect("the shapes are in the notation");
    shapes
        .into_iter()
        .flat_map(|shape| shape.messages)
        .collect()
}

/// Each API in each version, full and random.
fn of_apis(suffix: &str, make: impl Fn(ApiKey, i16, Vec<u8>) -> Vec<u8>) -> Vec<Vec<u8>> {
    let messages = messages();
    let mut made = Vec::new();
    for api in ApiKey::all() {
        let name = format!("{}{suffix}", api.name());
        let Some(message) = messages.iter().find(|message| message.name == name) else {
            continue;
        };
        for version in message.versions.iter() {
            for (richness, seed) in [(Richness::Full, 7), (Richness::Random, 8)] {
                let body = sample(message, version, richness, seed).bytes;
                made.push(make(api, version, body));
            }
        }
    }
    assert!(made.len() > 400, "{} messages", made.len());
    made
}

fn requests() -> Vec<Vec<u8>> {
    of_apis("Request", |api, version, body| {
        let mut frame = Vec::new();
        frame.put_i16(api.code());
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_slice(b"\0\x04fuzz");
        if api.request_header_version(version) >= 2 {
            frame.put_u8(0);
        }
        frame.put_slice(&body);
        frame
    })
}

fn responses() -> Vec<Vec<u8>> {
    of_apis("Response", |api, version, body| {
        let mut frame = Vec::new();
        frame.put_i16(api.code());
        frame.put_i16(version);
        frame.put_i32(7);
        if api.response_header_version(version) >= 1 {
            frame.put_u8(0);
        }
        frame.put_slice(&body);
        frame
    })
}

fn batch(options: BatchOptions, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for i in 0..records {
        let value = format!("value {i}");
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", None), (b"h", Some(b"v"))];
        builder.push(
            NOW,
            (i % 2 == 0).then_some(b"key"),
            Some(value.as_bytes()),
            headers,
        );
    }
    builder.build()
}

fn transactional() -> BatchOptions {
    BatchOptions {
        producer_id: 5,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    }
}

fn marker(commit: bool) -> Bytes {
    end_txn_marker(&EndTxnMarker {
        producer_id: 5,
        producer_epoch: 0,
        commit,
        coordinator_epoch: 0,
        timestamp: NOW,
    })
}

fn batches() -> Vec<Bytes> {
    let mut made = vec![batch(transactional(), 1), marker(true), marker(false)];
    for compression in Compression::ALL {
        let options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        made.push(batch(options, 3));
    }
    made
}

fn compressed() -> Vec<Vec<u8>> {
    let texts = [
        vec![0; 20_000],
        b"word count ".repeat(50),
        (0..=255).collect(),
    ];
    let mut made = Vec::new();
    for (number, codec) in (0u8..).zip(Compression::ALL) {
        for text in &texts {
            let mut small = vec![number, 5];
            compress(codec, text, &mut small);
            if codec == Compression::Snappy {
                // The block without its framing: as librdkafka may send it.
                made.push([&small[..2], &small[22..]].concat());
            }
            made.push(small);
        }
    }
    made
}

/// A log with two segments, an aborted transaction and an open one, as its files lie on the disk: (name, content).
fn files(clean: bool) -> Vec<(String, Vec<u8>)> {
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    let dir = Path::new("/t-0");
    let config = LogConfig {
        index_bytes: 4096,
        index_interval_bytes: 64,
        ..LogConfig::default()
    };
    let options = OpenOptions {
        clean: false,
        recovery_point: Some(0),
        log_start_offset: 0,
        topic_id: None,
        foreign: false,
    };
    let log = Log::open(disk.clone(), dir, config, options).expect("a new log");
    let client = AppendAs::client(1);
    let in_transaction = |sequence| {
        let guard = log.start_verification(5, 0, sequence, false);
        AppendAs::Client {
            leader_epoch: 1,
            guard: guard.unwrap_or(VerificationGuard::NONE),
        }
    };
    log.append(batch(transactional(), 1), &in_transaction(0), NOW)
        .expect("appended");
    log.append(
        marker(false),
        &AppendAs::Marker {
            leader_epoch: 1,
            transaction_version: 0,
        },
        NOW,
    )
    .expect("appended");
    log.roll().expect("rolled");
    for _ in 0..3 {
        log.append(batch(BatchOptions::default(), 2), &client, NOW)
            .expect("appended");
    }
    if clean {
        log.close().expect("closed");
    } else {
        log.flush().expect("flushed");
    }
    let names = disk.list(dir).expect("its directory");
    let read = |name: &String| {
        let file = disk
            .open(&dir.join(name), OpenMode::Read)
            .expect("it was listed");
        let mut content = vec![0; file.len().expect("a length") as usize];
        let read = file.read_at(&mut content, 0).expect("readable");
        content.truncate(read);
        content
    };
    names
        .into_iter()
        .map(|entry| (entry.name.clone(), read(&entry.name)))
        .collect()
}

fn segments() -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    for clean in [true, false] {
        let files = files(clean);
        let content = |name: &str| {
            let file = files.iter().find(|(found, _)| found == name);
            file.map(|(_, content)| content.as_slice())
                .unwrap_or_default()
        };
        let (last, others) = crate::entries::FILES.split_last().expect("files");
        let parts: Vec<&[u8]> = others.iter().map(|name| content(name)).collect();
        for how in [u8::from(clean), 2, 0] {
            made.push(pieces(&[how, 2], &parts, content(last)));
        }
        // One segment without any index.
        let none = vec![&[][..]; others.len()];
        made.push(pieces(&[0, 0], &none, content("00000000000000000002.log")));
    }
    made
}

fn log_dirs() -> Vec<Vec<u8>> {
    let meta = "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=BwcHBwcHBwcHBwcHBwcHBw\n";
    let points = "0\n2\nt 0 3\nother 1 9\n";
    let clean = r#"{"version":0,"brokerEpoch":1}"#;
    let log = batch(BatchOptions::default(), 2);
    [clean, ""]
        .iter()
        .map(|clean| {
            let texts = [meta, points, "0\n1\nt 0 1\n", clean, "t-0"];
            pieces(&[], &texts.map(str::as_bytes), &log)
        })
        .collect()
}

fn index_files() -> Vec<Vec<u8>> {
    let mut made = texts(&[
        "\x050\n2\nt 0 3\nother 1 9\n",
        "\x050\n2\n0 0\n3 17\n",
        "\x05version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n",
        "\x05a=b\n# c\n",
    ]);
    for (name, content) in files(true) {
        let kinds: &[u8] = match name.rsplit('.').next() {
            Some("index") => &[0, 1],
            Some("timeindex") => &[2],
            Some("txnindex") => &[3],
            Some("snapshot") => &[4],
            _ => &[],
        };
        made.extend(kinds.iter().map(|kind| [&[*kind][..], &content].concat()));
    }
    made
}

fn row(flags: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    match flags & 1 {
        0 => pieces(&[flags], &[key], &[]),
        _ => pieces(&[flags], &[key, value], &[]),
    }
}

fn coordinator_records() -> Vec<Vec<u8>> {
    let offset_key = message::OffsetCommitKey {
        group: "g".to_owned(),
        topic: "t".to_owned(),
        partition: 1,
    };
    let group_key = message::GroupMetadataKey {
        group: "g".to_owned(),
    };
    let txn_key = message::TransactionLogKey {
        transactional_id: "x".to_owned(),
    };
    let keys = [
        encode_prefixed(&offset_key, 1).expect("encodable"),
        encode_prefixed(&group_key, 2).expect("encodable"),
        encode_prefixed(&txn_key, 0).expect("encodable"),
    ];
    let messages = messages();
    let mut made = Vec::new();
    for (key, name) in keys.iter().zip([
        "OffsetCommitValue",
        "GroupMetadataValue",
        "TransactionLogValue",
    ]) {
        let shape = messages
            .iter()
            .find(|message| message.name == name)
            .expect("a shape");
        for version in shape.versions.iter() {
            for seed in 0..3 {
                let mut value = version.to_be_bytes().to_vec();
                value.extend(sample(shape, version, Richness::Full, seed).bytes);
                let mut rows = vec![1];
                rows.extend(row(1, key, &value));
                rows.extend(row(0x13, key, &value));
                rows.extend(row(0, key, &[]));
                made.push(rows);
            }
        }
    }
    made
}

fn members() -> Vec<Vec<u8>> {
    let messages = messages();
    let shape = |name: &str| {
        messages
            .iter()
            .find(|message| message.name == name)
            .expect("a shape")
    };
    let mut made = Vec::new();
    for (version, seed) in [(0, 1), (1, 2), (2, 3), (3, 4), (3, 5)] {
        let told = |seed| {
            let mut bytes = i16::to_be_bytes(version).to_vec();
            bytes.extend(
                sample(
                    shape("ConsumerProtocolSubscription"),
                    version,
                    Richness::Full,
                    seed,
                )
                .bytes,
            );
            bytes
        };
        let subscription = |owned: &[(&str, &[i32])], user_data: Option<Bytes>| {
            use message::consumer_protocol_subscription::TopicPartition;
            let owned = owned.iter().map(|(topic, partitions)| TopicPartition {
                topic: (*topic).to_owned(),
                partitions: partitions.to_vec(),
            });
            let told = message::ConsumerProtocolSubscription {
                topics: vec!["a".to_owned(), "b".to_owned()],
                user_data,
                owned_partitions: owned.collect(),
                generation_id: 3,
                rack_id: None,
            };
            encode_prefixed(&told, 3).expect("encodable").to_vec()
        };
        let sticky = Bytes::from_static(b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x05");
        let (one, two) = (
            subscription(&[("a", &[0, 1]), ("b", &[7])], Some(sticky)),
            subscription(&[("a", &[1])], None),
        );
        made.push(pieces(
            &[],
            &[&told(seed), &told(seed + 10), &one, &two],
            &[],
        ));
        made.push(pieces(&[], &[&one, &two], &[]));
    }
    made.push(b"\0\x01\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec());
    made
}

fn streams_values() -> Vec<Vec<u8>> {
    let mut made = texts(&[
        "AgAAAYvPmoAAAAAAAQAAAAFuAAABi8+agAA=",
        "AQAAAAAAAAAA",
        r#"{"a":[1,{"b":null}]}"#,
    ]);
    made.push(b"\x01\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04".to_vec());
    made.push(b"\x80\0\0\0\0\0\0\x07key\0\0\0\0".to_vec());
    made
}

fn connect_records() -> Vec<Vec<u8>> {
    let rows = [
        (
            "connector-c",
            r#"{"properties":{"name":"c","connector.class":"FileSource"}}"#,
        ),
        ("task-c-0", r#"{"properties":{"task.class":"FileSource"}}"#),
        ("commit-c", r#"{"tasks":1}"#),
        (
            "target-state-c",
            r#"{"state":"PAUSED","state.v2":"STOPPED"}"#,
        ),
        (
            r#"["c",{"filename":"/x"}]"#,
            r#"{"position":12,"line":3,"head":"4:00000000000000ff","guard":"1:0000000000000001"}"#,
        ),
    ];
    let mut all = Vec::new();
    let mut made = Vec::new();
    for (key, value) in rows {
        let row = row(1, key.as_bytes(), value.as_bytes());
        all.extend_from_slice(&row);
        made.push(row);
    }
    all.extend(row(0, b"connector-c", &[]));
    made.push(all);
    made
}

fn rest() -> Vec<Vec<u8>> {
    let config =
        r#"{"connector.class":"FileSource","file":"/dev/null","topic":"t","tasks.max":"1"}"#;
    let create = r#"{"name":"c","config":{"connector.class":"FileSource","topic":5,"x":null},"initial_state":"PAUSED","initial_offsets":[{"partition":{"filename":"/x"},"offset":{"position":3}}]}"#;
    let offsets = r#"{"offsets":[{"partition":{"kafka_topic":"t","kafka_partition":0},"offset":{"kafka_offset":9}},{"partition":{"filename":"/x"},"offset":null}]}"#;
    [
        (0, "connectors?expand=status&expand=info", ""),
        (1, "connectors", create),
        (2, "connectors/c/config", config),
        (3, "connectors/c/config", r#"{"topic":null}"#),
        (2, "connector-plugins/FileSource/config/validate", config),
        (3, "connectors/c/offsets", offsets),
        (4, "connectors/c/offsets", ""),
        (1, "connectors/c/restart?includeTasks=true&onlyFailed=x", ""),
        (1, "connectors/c/tasks/0/restart", ""),
        (2, "connectors/c/topics/reset", ""),
        (4, "connectors/c", ""),
        (0, "connectors/c/tasks/9999999999999999999/status", ""),
    ]
    .iter()
    .map(|(method, path, body)| pieces(&[*method], &[path.as_bytes()], body.as_bytes()))
    .collect()
}

fn file_source() -> Vec<Vec<u8>> {
    let csv =
        "id,name,when,x\r\n1,\"a \"\"quoted\"\"\nname\",2024-01-01T00:00:00Z,1.5\n2,,NA,-3\n\"open";
    let mut made = texts(&[
        r#"{"position":12,"line":3,"generation":1,"device":1,"inode":2,"head":"4:00000000000000ff","guard":"1:0000000000000001","columns":"a:int64","eof":true}"#,
        "af63dc4c8601ec8c {\"length\":1}\n",
    ]);
    for (start, piece, max) in [(0i64, 7u8, 255u8), (5, 1, 9), (i64::MAX, 200, 20)] {
        let mut bytes = start.to_be_bytes().to_vec();
        bytes.extend([piece, max]);
        bytes.extend_from_slice(csv.as_bytes());
        made.push(bytes);
    }
    made
}
