//! Who is attached, as all who are attached are told; and what is answered to what cannot be done.

use abide_model::{
    AttachmentError, FromTerminal, MAX_VIEWER_NAME, Presence, SizePolicy, ToTerminal, ViewerRole,
};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::super::http::Composition as _;
use super::{Attachment, Terminal};
use futures_util::{SinkExt as _, StreamExt as _};

fn hello(
    name: Option<&str>,
    role: Option<ViewerRole>,
    size_policy: Option<SizePolicy>,
) -> ToTerminal {
    ToTerminal::Hello {
        name: name.map(str::to_owned),
        role,
        size_policy,
    }
}

/// Waits until this is so of those who are attached.
async fn present(
    viewer: &mut Attachment,
    wanted: impl Fn(SizePolicy, &[Presence]) -> bool,
) -> Vec<Presence> {
    viewer
        .told(|message| match message {
            FromTerminal::Viewers {
                size_policy,
                viewers,
            } if wanted(*size_policy, viewers) => Some(viewers.clone()),
            _ => None,
        })
        .await
}

async fn own_id(viewer: &mut Attachment) -> u64 {
    viewer
        .told(|message| match message {
            FromTerminal::Attached { viewer_id, .. } => Some(*viewer_id),
            _ => None,
        })
        .await
}

async fn refused(viewer: &mut Attachment) -> AttachmentError {
    viewer
        .told(|message| match message {
            FromTerminal::Error { code, message } => {
                assert!(!message.is_empty());
                Some(*code)
            }
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_told_who_comes_goes_and_changes() {
    let terminal = Terminal::shell(&[]).await;
    let mut ada = terminal.attach("cols=100&rows=30").await;
    let id = own_id(&mut ada).await;
    let alone = present(&mut ada, |_, all| all.len() == 1).await;
    let expected = Presence {
        id,
        name: None,
        role: ViewerRole::Drive,
        cols: Some(100),
        rows: Some(30),
        drives_size: true,
    };
    assert_eq!(alone, std::slice::from_ref(&expected));
    ada.says(&hello(Some("ada"), None, None)).await;
    present(&mut ada, |_, all| all[0].name.as_deref() == Some("ada")).await;

    let mut bob = terminal.attach("role=view").await;
    let bobs = own_id(&mut bob).await;
    for viewer in [&mut ada, &mut bob] {
        let both = present(viewer, |_, all| all.len() == 2).await;
        let named = Presence {
            name: Some("ada".to_owned()),
            ..expected.clone()
        };
        assert_eq!(both[0], named);
        assert_eq!((both[1].id, both[1].role), (bobs, ViewerRole::View));
        assert_eq!((both[1].cols, both[1].drives_size), (None, false));
    }
    // He takes over: his window is the terminal's now.
    bob.says(&ToTerminal::Resize { cols: 70, rows: 20 }).await;
    bob.says(&hello(None, Some(ViewerRole::Drive), None)).await;
    for viewer in [&mut ada, &mut bob] {
        present(viewer, |_, all| {
            !all[0].drives_size && all[1].drives_size && all[1].cols == Some(70)
        })
        .await;
    }
    bob.types("stty size\n").await;
    bob.until("20 70\r\n").await;
    drop(bob);
    let left = present(&mut ada, |_, all| all.len() == 1).await;
    assert!(left[0].drives_size && left[0].name.as_deref() == Some("ada"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_policy_is_changed_by_message_and_by_request_and_outlives_the_server() {
    let mut terminal = Terminal::shell(&[]).await;
    let mut wide = terminal.attach("cols=100&rows=20").await;
    let mut high = terminal.attach("cols=70&rows=30").await;
    wide.types("stty size\n").await;
    wide.until("20 100\r\n").await;
    high.says(&hello(None, None, Some(SizePolicy::Smallest)))
        .await;
    for viewer in [&mut wide, &mut high] {
        present(viewer, |policy, all| {
            policy == SizePolicy::Smallest && all.iter().all(|it| it.drives_size)
        })
        .await;
    }
    wide.types("stty size\n").await;
    wide.until("20 70\r\n").await;
    let state = terminal.state().await;
    assert_eq!(state["terminal"]["size_policy"], "smallest");

    let policy = json!({ "size_policy": "owner" });
    let changed = terminal.api.patch(&terminal.path, &policy);
    let changed = changed.await.check(200);
    assert_eq!(changed["terminal"]["size_policy"], "owner");
    present(&mut high, |policy, all| {
        policy == SizePolicy::Owner && all[0].drives_size && !all[1].drives_size
    })
    .await;
    high.types("stty size\n").await;
    high.until("20 100\r\n").await;
    terminal.api.kill_and_up();
    let mut after = terminal.attach("cols=90&rows=25").await;
    present(&mut after, |policy, _| policy == SizePolicy::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_and_changes_nothing() {
    let terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("role=view").await;
    viewer
        .says(&hello(None, None, Some(SizePolicy::Owner)))
        .await;
    assert_eq!(refused(&mut viewer).await, AttachmentError::NotDriving);
    for name in ["x".repeat(MAX_VIEWER_NAME + 1), "\u{1b}[2J".to_owned()] {
        viewer
            .says(&hello(Some(&name), Some(ViewerRole::Drive), None))
            .await;
        assert_eq!(refused(&mut viewer).await, AttachmentError::InvalidInput);
    }
    viewer.types("echo never\n").await;
    assert_eq!(refused(&mut viewer).await, AttachmentError::NotDriving);
    viewer.says(&hello(Some("eve"), None, None)).await;
    let all = present(&mut viewer, |_, all| all[0].name.is_some()).await;
    assert_eq!(
        (all[0].name.as_deref(), all[0].role),
        (Some("eve"), ViewerRole::View)
    );
    assert_eq!(
        terminal.state().await["terminal"]["size_policy"],
        json!(null)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_server_closes_it_says_why() {
    for message in [
        Message::Text("{\"type\":\"dance\"}".into()),
        Message::Text("not JSON".into()),
        Message::Binary(vec![1, 2, 3].into()),
        Message::Binary(vec![9; 20].into()),
    ] {
        let terminal = Terminal::shell(&[]).await;
        let mut viewer = terminal.attach("").await;
        viewer.socket.send(message).await.unwrap();
        assert_eq!(refused(&mut viewer).await, AttachmentError::InvalidMessage);
        assert_eq!(viewer.closed().await.0, CloseCode::Invalid);
    }
    let terminal = Terminal::shell(&[]).await;
    let mut viewer = terminal.attach("").await;
    own_id(&mut viewer).await;
    let stopping = terminal.api.post("/shutdown", &json!({})).await;
    assert_eq!(stopping.status, 202);
    assert_eq!(refused(&mut viewer).await, AttachmentError::ShuttingDown);
    assert_eq!(viewer.closed().await.0, CloseCode::Restart);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_no_sign_of_life_is_given_up() {
    let settings = ["terminal_ping_interval=20ms", "terminal_read_timeout=300ms"];
    let terminal = Terminal::shell(&settings).await;
    terminal.shows("$").await;
    let silent = terminal.attach("").await;
    let mut lively = terminal.attach("").await;
    present(&mut lively, |_, all| all.len() == 2).await;
    // Reading answers the pings, of which there are enough for longer than the limit.
    let mut pings = 0;
    while pings < 50 {
        match lively.socket.next().await {
            Some(Ok(Message::Ping(_))) => pings += 1,
            Some(Ok(Message::Text(text))) => {
                lively
                    .others
                    .push_back(serde_json::from_str(&text).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    present(&mut lively, |_, all| all.len() == 1).await;
    lively.types("echo st'i'll\n").await;
    lively.until("still\r\n$ ").await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_compression_is_agreed_to() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

    let terminal = Terminal::shell(&[]).await;
    let url = terminal.api.server.base_url();
    let address = url.strip_prefix("http://").unwrap();
    let request = format!("ws://{address}{}/attach", terminal.path);
    let mut request = request.into_client_request().unwrap();
    let offer = "permessage-deflate; client_max_window_bits";
    let headers = request.headers_mut();
    headers.insert("sec-websocket-extensions", offer.parse().unwrap());
    let key = format!("Bearer {}", terminal.api.key);
    headers.insert("authorization", key.parse().unwrap());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (_, response) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers().get("sec-websocket-extensions"), None);
}
