//! What is kept of answers that nobody reads.

use std::{collections::BTreeMap, net::Ipv4Addr};

use prost::Message;
use tonic::{Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use weft_control_api::v1;
use weft_model::{access::EnvironmentRole, registry::ServiceWish};

use crate::site::{Site, name, next, with};

/// What is kept for one source of answers that are not read, bytes, and of what each takes a multiple.
const BYTES_MAX: usize = 16 << 20;
const PLACE_BYTES: usize = 64 << 10;

/// Asks for services, and reads nothing of the answer yet.
async fn ask_only(
    channel: &Channel,
    by: &str,
    environment: &str,
) -> Streaming<v1::ListServicesResponse> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/weft.control.v1.Services/ListServices");
    let list = v1::ListServicesRequest { environment: name(environment), page: None };
    let answer = client.server_streaming(with(list, by), path, ProstCodec::default()).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn who_reads_no_answers_has_so_much_of_them_kept_and_loses_its_own_oldest() {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    let shop = site.environment(&owner, "acme", "shop").await.id;
    let caller = site.machine(&shop, EnvironmentRole::Deployer);
    for n in 0..80 {
        let metadata = (0..15).map(|n| (format!("m{n:02}"), "x".repeat(256))).collect();
        let service = format!("s{n:03}").parse().unwrap();
        let wish = ServiceWish { name: service, ports: BTreeMap::new(), metadata };
        site.app.put_service(&caller, &shop.parse().unwrap(), &wish, 0).await.unwrap();
    }
    let good = site.connect_from(Ipv4Addr::new(127, 0, 0, 2).into()).await;
    let whole = next(&mut ask_only(&good, &owner, &shop).await).await.unwrap();
    let len_max = BYTES_MAX / whole.encoded_len().next_multiple_of(PLACE_BYTES);

    let mut waiting = Vec::new();
    let mut channel = site.connect_unread(1_024).await;
    for n in 0..len_max + 2 {
        if n % 15 == 14 {
            channel = site.connect_unread(1_024).await;
        }
        waiting.push(ask_only(&channel, &owner, &shop).await);
    }
    // Who asks from elsewhere waits for nothing, and those that were asked for last are all there.
    let other = next(&mut ask_only(&good, &owner, &shop).await).await.unwrap();
    assert_eq!(other, whole);
    assert_eq!(next(&mut waiting[len_max + 1]).await.unwrap(), whole);
    for lost in &mut waiting[..2] {
        next(lost).await.unwrap_err();
    }
    assert_eq!(next(&mut waiting[2]).await.unwrap(), whole);
}
