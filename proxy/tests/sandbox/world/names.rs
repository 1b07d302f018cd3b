//! Questions for names, and the answers that the proxy makes up.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use super::World;

impl World {
    /// Whether the name has a synthetic address; `None` when it does not exist.
    pub(crate) async fn look_up(&self, name: &str) -> Option<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket
            .send_to(&question(name), self.workload().dns)
            .await
            .unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await.unwrap();
        is_synthetic(&buffer[..length])
    }

    pub(crate) async fn look_up_over_tcp(&self, name: &str) -> Option<bool> {
        let mut stream = TcpStream::connect(self.workload().dns_tcp).await.unwrap();
        let question = question(name);
        stream
            .write_u16(u16::try_from(question.len()).unwrap())
            .await
            .unwrap();
        stream.write_all(&question).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        is_synthetic(&answer)
    }
}

/// A question for the A record of a name.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// Is the answer a made-up address? `None` when the name does not exist.
fn is_synthetic(answer: &[u8]) -> Option<bool> {
    let exists = answer[3].trailing_zeros() >= 4;
    exists.then(|| answer[answer.len() - 4] == 198 && [18, 19].contains(&answer[answer.len() - 3]))
}
