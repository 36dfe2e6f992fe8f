use super::*;
use bytes::Bytes;
use kybern_stream::mux::Data;
use kybern_wire::node as pb;

fn dial() -> open::What {
    open::What::Dial(pb::Dial { ip: "10.42.0.7".into(), port: 80 })
}

/// A node that accepts every channel, sends back what it gets on stream 0 and closes at its end.
async fn echo_node(link: Arc<NodeLink>, mut queue: mpsc::UnboundedReceiver<ToNode>) {
    while let Some(ToNode { channel, frame }) = queue.recv().await {
        let answer = |frame| link.deliver(FromNode { channel, frame: Some(frame) });
        match frame {
            Some(to_node::Frame::Open(_)) => {
                answer(from_node::Frame::Opened(Opened { code: 200, ..Opened::default() }))
            }
            Some(to_node::Frame::Data(d)) if d.end => answer(from_node::Frame::Close(pb::Close::default())),
            Some(to_node::Frame::Data(d)) => answer(from_node::Frame::Data(d)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_channel_reaches_the_node_and_back() {
    let nodes = Nodes::new();
    let (link, queue) = nodes.attach("n1");
    tokio::spawn(echo_node(link, queue));
    let mut channel = nodes.open("n1", dial()).await.expect("open").channel;
    channel.sender.send(0, Bytes::from("hello")).await.expect("send");
    let got = channel.receiver.recv().await.expect("recv");
    assert_eq!(got, Some(Data { stream: 0, bytes: Bytes::from("hello"), end: false }));
    channel.sender.end(0).expect("end");
    assert_eq!(channel.receiver.recv().await, Ok(None));
}

#[tokio::test]
async fn an_unknown_node_is_503_with_its_name() {
    let status = Nodes::new().open("n9", dial()).await.expect_err("no such node");
    assert_eq!((status.code, status.message.contains("\"n9\"")), (503, true));
}

#[tokio::test]
async fn a_refusal_is_the_nodes_own_status() {
    let nodes = Nodes::new();
    let (link, mut queue) = nodes.attach("n1");
    tokio::spawn(async move {
        let refusal = Status::bad_request("container \"c\" is waiting to start");
        while let Some(ToNode { channel, .. }) = queue.recv().await {
            let error = String::from_utf8(refusal.to_json()).expect("text");
            link.deliver(FromNode { channel, frame: Some(from_node::Frame::Close(pb::Close { error })) });
        }
    });
    let status = nodes.open("n1", dial()).await.expect_err("refused");
    assert_eq!((status.code, status.message.as_str()), (400, "container \"c\" is waiting to start"));
}

#[tokio::test]
async fn a_new_stream_takes_the_old_ones_place() {
    let nodes = Nodes::new();
    let (old, old_queue) = nodes.attach("n1");
    let echo = tokio::spawn(echo_node(old.clone(), old_queue));
    let mut channel = nodes.open("n1", dial()).await.expect("open").channel;
    let (_new, _queue) = nodes.attach("n1");
    assert_eq!(channel.receiver.recv().await, Err(ChannelError::Lost));
    nodes.detach("n1", &old);
    assert_eq!(nodes.connected(), ["n1"], "the end of the old stream leaves the new one");
    echo.abort();
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_a_timeout() {
    let nodes = Nodes::new();
    let (_link, _queue) = nodes.attach("n1");
    let status = nodes.open("n1", dial()).await.expect_err("no answer");
    assert_eq!(status.code, 504);
}
