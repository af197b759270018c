//! What the server tells of itself.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use weft_control_api::DESCRIPTORS;

use crate::site::{Site, next};

fn services() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let services = files.file.iter().flat_map(|file| &file.service);
    services.map(|service| format!("weft.control.v1.{}", service.name())).collect()
}

#[tokio::test]
async fn every_service_of_the_protocol_is_served_and_says_so() {
    let site = Site::start().await;
    let channel = site.connect(None).await;
    let mut health = HealthClient::new(channel.clone());
    for service in services() {
        let answer = health.check(HealthCheckRequest { service }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let asked = tokio_stream::once(request);
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(listed)) =
        next(&mut answers).await.unwrap().message_response
    else {
        panic!("no list");
    };
    let listed: BTreeSet<String> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(listed.is_superset(&services()), "{listed:?}");
}

/// Numbers of fields in descriptor.proto.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;

/// The protocol is the contract: whoever reads it finds a word about everything.
#[test]
fn everything_in_the_protocol_is_explained() {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut silent = Vec::new();
    for file in files.file.iter().filter(|file| file.package() == "weft.control.v1") {
        let info = file.source_code_info.as_ref().unwrap();
        let explained: BTreeSet<&[i32]> = info
            .location
            .iter()
            .filter(|at| !at.leading_comments().trim().is_empty())
            .map(|at| at.path.as_slice())
            .collect();
        let mut need = |path: &[i32], what: String| {
            if !explained.contains(path) {
                silent.push(format!("{}: {what}", file.name()));
            }
        };
        for (n, message) in (0..).zip(&file.message_type) {
            need(&[MESSAGE, n], message.name().to_owned());
            for (k, field) in (0..).zip(&message.field) {
                need(&[MESSAGE, n, 2, k], format!("{}.{}", message.name(), field.name()));
            }
        }
        for (n, words) in (0..).zip(&file.enum_type) {
            need(&[ENUM, n], words.name().to_owned());
            for (k, value) in (0..).zip(&words.value) {
                need(&[ENUM, n, 2, k], value.name().to_owned());
            }
        }
        for (n, service) in (0..).zip(&file.service) {
            need(&[SERVICE, n], service.name().to_owned());
            for (k, method) in (0..).zip(&service.method) {
                need(&[SERVICE, n, 2, k], format!("{}.{}", service.name(), method.name()));
            }
        }
    }
    assert!(silent.is_empty(), "nothing is said of {silent:#?}");
}
