//! Commands decided on small images.

use super::*;

fn image() -> ClusterImage {
    let mut image = ClusterImage::default();
    let broker = BrokerRecord {
        id: 1,
        incarnation: [1; 16],
        host: "h".to_owned(),
        port: 1,
        rack: None,
    };
    apply(&mut image, &RegisterBroker(broker));
    image
}

fn apply<C: Command>(image: &mut ClusterImage, command: &C) -> C::Reply {
    let decision = command.decide(image).unwrap();
    decision
        .records
        .iter()
        .for_each(|record| image.apply(record));
    decision.reply
}

fn topic(name: &str, partitions: i32, replicas: i32) -> NewTopic {
    let id = TopicId([u8::try_from(name.len()).unwrap_or(255); 16]);
    NewTopic {
        name: name.to_owned(),
        id,
        layout: Layout::Counted {
            partitions,
            replicas,
        },
        configs: vec![],
    }
}

fn create(image: &mut ClusterImage, topics: Vec<NewTopic>) -> Vec<Result<CreatedTopic, ErrorCode>> {
    let replies = apply(
        image,
        &CreateTopics {
            topics,
            placement_start: 0,
        },
    );
    replies
        .into_iter()
        .map(|reply| reply.map_err(|refused| refused.code))
        .collect()
}

#[test]
fn a_created_topic_is_led_by_the_only_broker() {
    let mut image = image();
    let created = create(&mut image, vec![topic("orders", 3, 1)]);
    assert_eq!(created[0].as_ref().unwrap().partitions, 3);
    let topic = image.topic("orders").unwrap();
    assert!(
        topic
            .partitions
            .iter()
            .all(|p| p.leader == 1 && p.isr == [1] && p.leader_epoch == 0)
    );
}

#[test]
fn one_refused_topic_does_not_stop_the_others() {
    let mut image = image();
    let created = create(
        &mut image,
        vec![
            topic("a", 0, 1),
            topic("bb", 1, 2),
            topic("ccc", 1, 1),
            topic("ccc", 1, 1),
        ],
    );
    let codes: Vec<_> = created
        .iter()
        .map(|reply| reply.as_ref().err().copied())
        .collect();
    assert_eq!(
        codes,
        [
            Some(ErrorCode::InvalidPartitions),
            Some(ErrorCode::InvalidReplicationFactor),
            None,
            Some(ErrorCode::TopicAlreadyExists)
        ]
    );
    assert_eq!(image.topics().count(), 1);
}

#[test]
fn illegal_and_colliding_names_are_refused() {
    let mut image = image();
    create(&mut image, vec![topic("a.b", 1, 1)]);
    let long = "x".repeat(250);
    for name in [
        "",
        ".",
        "..",
        "a b",
        "ä",
        "a/b",
        long.as_str(),
        "a_b",
        METADATA_TOPIC,
    ] {
        let created = create(&mut image, vec![topic(name, 1, 1)]);
        assert_eq!(
            created[0].as_ref().err(),
            Some(&ErrorCode::InvalidTopicException),
            "{name}"
        );
    }
    assert!(create(&mut image, vec![topic(&"x".repeat(249), 1, 1)])[0].is_ok());
}

#[test]
fn an_assignment_must_be_complete_and_name_registered_brokers() {
    let assigned = |assigned: Vec<(i32, Vec<BrokerId>)>| NewTopic {
        layout: Layout::Assigned(assigned),
        ..topic("a", 1, 1)
    };
    for bad in [
        vec![(1, vec![1])],
        vec![(0, vec![])],
        vec![(0, vec![1, 1])],
        vec![(0, vec![2])],
        vec![(0, vec![1]), (0, vec![1])],
    ] {
        let created = create(&mut image(), vec![assigned(bad.clone())]);
        assert_eq!(
            created[0].as_ref().err(),
            Some(&ErrorCode::InvalidReplicaAssignment),
            "{bad:?}"
        );
    }
    let created = create(
        &mut image(),
        vec![assigned(vec![(1, vec![1]), (0, vec![1])])],
    );
    assert_eq!(created[0].as_ref().unwrap().partitions, 2);
}

#[test]
fn an_illegal_configuration_is_refused() {
    for (key, value) in [
        ("retention.ms", None),
        ("retention.ms", Some("soon")),
        ("retention.msx", Some("1")),
    ] {
        let mut bad = topic("a", 1, 1);
        bad.configs = vec![(key.to_owned(), value.map(str::to_owned))];
        let created = create(&mut image(), vec![bad]);
        assert_eq!(
            created[0].as_ref().err(),
            Some(&ErrorCode::InvalidConfig),
            "{key}={value:?}"
        );
    }
}

#[test]
fn a_topic_is_deleted_once() {
    let mut image = image();
    let id = create(&mut image, vec![topic("a", 1, 1)])[0]
        .as_ref()
        .unwrap()
        .id;
    let replies = apply(
        &mut image,
        &DeleteTopics {
            topics: vec![id, id],
        },
    );
    assert_eq!(replies[0], Ok(()));
    assert_eq!(
        replies[1].as_ref().err().map(|refused| refused.code),
        Some(ErrorCode::UnknownTopicId)
    );
    assert_eq!(image.topics().count(), 0);
}

#[test]
fn producer_id_blocks_do_not_overlap() {
    let mut image = image();
    let command = AllocateProducerIds { broker: 1 };
    assert_eq!(apply(&mut image, &command), 0);
    assert_eq!(apply(&mut image, &command), 1000);
    assert_eq!(image.next_producer_id(), 2000);
}

#[test]
fn registering_again_without_a_change_writes_nothing() {
    let image = image();
    let broker = image.broker(1).unwrap().clone();
    assert!(
        RegisterBroker(broker)
            .decide(&image)
            .unwrap()
            .records
            .is_empty()
    );
    let features = SetFeatures(vec![("group.version".to_owned(), 0)]);
    assert!(features.decide(&image).unwrap().records.is_empty());
}
