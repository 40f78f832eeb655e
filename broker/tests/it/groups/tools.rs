//! Groups as tools see them.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
};

use crate::support::{Wire, World};

use super::*;

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let world = World::start(&[]).await;
    let mut idle = world.client().await;
    assert_eq!(idle.call(5, &ListGroupsRequest::default()).await.groups, []);
    let (mut one, _two, _, _, _) = two_members(&world).await;
    let listed = one.call(5, &ListGroupsRequest::default()).await;
    let group = &listed.groups[0];
    assert_eq!(
        (group.group_id.as_str(), group.protocol_type.as_str()),
        (GROUP, "consumer")
    );
    assert_eq!(
        (group.group_state.as_str(), group.group_type.as_str()),
        ("Stable", "classic")
    );
    for (states, types, count) in [
        (vec!["stable"], vec![], 1),
        (vec!["Empty"], vec![], 0),
        (vec![], vec!["Classic"], 1),
        (vec!["Stable"], vec!["consumer"], 0),
    ] {
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let request = ListGroupsRequest {
            states_filter: owned(states),
            types_filter: owned(types),
            ..Default::default()
        };
        assert_eq!(
            one.call(5, &request).await.groups.len(),
            count,
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn groups_are_described() {
    let world = World::start(&[]).await;
    let (mut one, _two, leader, _, _) = two_members(&world).await;
    let request = DescribeGroupsRequest {
        groups: vec![GROUP.to_owned(), "nobody".to_owned()],
        ..Default::default()
    };
    let described = one.call(5, &request).await;
    let group = &described.groups[0];
    assert_eq!(
        (
            group.group_state.as_str(),
            group.protocol_data.as_str(),
            group.members.len()
        ),
        ("Stable", "range", 2)
    );
    let member = group
        .members
        .iter()
        .find(|member| member.member_id == leader)
        .unwrap();
    assert_eq!(
        (member.client_id.as_str(), member.client_host.as_str()),
        ("it", "/127.0.0.1")
    );
    assert_eq!(
        (&member.member_metadata[..], &member.member_assignment[..]),
        (&b"subscription"[..], &b"A"[..])
    );
    assert_eq!(
        (
            described.groups[1].group_state.as_str(),
            described.groups[1].error_code
        ),
        ("Dead", 0)
    );
    let described = one.call(6, &request).await;
    assert_eq!(
        ErrorCode::from_code(described.groups[1].error_code),
        ErrorCode::GroupIdNotFound
    );
}

#[tokio::test]
async fn this_broker_coordinates_everything_and_says_so_in_every_version() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    for version in 0..=6 {
        for key_type in [0, 1] {
            if version == 0 && key_type == 1 {
                continue;
            }
            let request = match version {
                0..4 => FindCoordinatorRequest {
                    key: "k".to_owned(),
                    key_type,
                    ..Default::default()
                },
                _ => FindCoordinatorRequest {
                    coordinator_keys: vec!["k".to_owned()],
                    key_type,
                    ..Default::default()
                },
            };
            let response = client.call(version, &request).await;
            let (node_id, port) = match response.coordinators.first() {
                Some(found) => (found.node_id, found.port),
                None => (response.node_id, response.port),
            };
            assert_eq!(
                (node_id, port),
                (1, i32::from(world.addr().port())),
                "v{version}"
            );
        }
    }
    let unknown = FindCoordinatorRequest {
        coordinator_keys: vec!["k".to_owned()],
        key_type: 9,
        ..Default::default()
    };
    let response = client.call(6, &unknown).await;
    assert_eq!(
        ErrorCode::from_code(response.coordinators[0].error_code),
        ErrorCode::InvalidRequest
    );
}

#[tokio::test]
async fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let joined = client.call(3, &join_request("")).await;
    let assigned = sync_request(&joined.member_id, 1, &[(&joined.member_id, "A")]);
    client.call(3, &assigned).await;
    client
        .call(7, &commit_request(&joined.member_id, 1, 42))
        .await;
    let request = DeleteGroupsRequest {
        groups_names: vec![GROUP.to_owned(), "nobody".to_owned()],
        ..Default::default()
    };
    let delete = async |client: &mut Wire| {
        let results = client.call(2, &request).await.results;
        let code = |index: usize| ErrorCode::from_code(results[index].error_code);
        (code(0), code(1))
    };
    let missing = ErrorCode::GroupIdNotFound;
    assert_eq!(
        delete(&mut client).await,
        (ErrorCode::NonEmptyGroup, missing)
    );
    leave_all(&mut client, 3, &joined.member_id).await;
    assert_eq!(delete(&mut client).await, (ErrorCode::None, missing));
    assert_eq!(committed(&mut client, true).await, Ok(-1));
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, true).await, Ok(-1));
    assert_eq!(
        client.call(5, &ListGroupsRequest::default()).await.groups,
        []
    );
}
