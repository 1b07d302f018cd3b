use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hickory_proto::rr::{Record, rdata};

use super::*;

const V4: Families = Families { v4: true, v6: false };

/// A name server of our own: answers every A question with these addresses, and counts.
async fn server(addresses: Vec<[u8; 4]>, code: ResponseCode) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut answer = Message::from_vec(&buffer[..length]).unwrap();
            let name = answer.queries[0].name().clone();
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.response_code = code;
            answer.add_answers(
                addresses.iter().map(|address| {
                    Record::from_rdata(name.clone(), 60, RData::A(rdata::A((*address).into())))
                }),
            );
            let mut stray = answer.clone();
            stray.metadata.id ^= 1;
            for message in [stray, answer] {
                socket.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    (address, asked)
}

fn host() -> HostName {
    "api.example.com".parse().unwrap()
}

async fn resolve(addresses: Vec<[u8; 4]>) -> Result<Vec<SocketAddr>, Error> {
    let (server, _) = server(addresses, ResponseCode::NoError).await;
    Resolver::new(vec![server], BTreeMap::new(), V4)
        .resolve(&host(), 443)
        .await
}

#[tokio::test]
async fn public_addresses_are_given_with_the_port_and_private_ones_left_out() {
    assert_eq!(
        resolve(vec![[10, 0, 0, 1], [1, 1, 1, 1]]).await,
        Ok(vec!["1.1.1.1:443".parse().unwrap()])
    );
}

#[tokio::test]
async fn names_of_inner_addresses_are_refused() {
    for address in [
        [127, 0, 0, 1],
        [169, 254, 169, 254],
        [10, 96, 0, 1],
        [100, 100, 100, 200],
        [0, 0, 0, 0],
    ] {
        assert_eq!(resolve(vec![address]).await, Err(Error::NotGlobal), "{address:?}");
    }
    assert_eq!(resolve(Vec::new()).await, Err(Error::NoAddress));
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time() {
    let (server, asked) = server(vec![[1, 1, 1, 1]], ResponseCode::NoError).await;
    let resolver = Resolver::new(vec![server], BTreeMap::new(), V4);
    for _ in 0..3 {
        resolver.resolve(&host(), 443).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_fails() {
    let (broken, _) = server(Vec::new(), ResponseCode::ServFail).await;
    let (sound, _) = server(vec![[1, 1, 1, 1]], ResponseCode::NoError).await;
    let resolver = Resolver::new(vec![broken, sound], BTreeMap::new(), V4);
    assert!(resolver.resolve(&host(), 443).await.is_ok());
    let resolver = Resolver::new(vec![broken], BTreeMap::new(), V4);
    assert_eq!(resolver.resolve(&host(), 443).await, Err(Error::NoResolver));
}

#[tokio::test]
async fn a_fixed_address_is_taken_as_it_is() {
    let fixed: SocketAddr = "127.0.0.1:9443".parse().unwrap();
    let resolver = Resolver::new(Vec::new(), [(host(), fixed)].into(), V4);
    assert!(resolver.is_fixed(&host()));
    assert_eq!(resolver.resolve(&host(), 443).await, Ok(vec![fixed]));
}
