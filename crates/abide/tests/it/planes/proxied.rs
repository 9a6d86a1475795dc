//! The proxy itself: what it is told to do it does, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use abide_testkit::Proxy;
use abide_testkit::proxy::{Action, Fault, Point};

const REQUEST: &[u8] = b"POST /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What a server behind the proxy saw, and what the client got, of one exchange with one fault.
fn exchange(fault: Option<Fault>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&format!("http://{}", server.local_addr().unwrap())).unwrap();
    let connections = match &fault {
        Some(fault) if matches!(fault.action, Action::Duplicate) => 2,
        _ => 1,
    };
    if let Some(fault) = fault {
        proxy.once(|request| request.is("POST", "/x"), fault);
    }
    let address = proxy.url().trim_start_matches("http://").to_owned();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let serve = |_| {
                let (mut stream, _) = server.accept().unwrap();
                scope.spawn(move || {
                    let (mut seen, mut byte) = (Vec::new(), [0]);
                    while seen.len() < REQUEST.len() && matches!(stream.read(&mut byte), Ok(1)) {
                        seen.push(byte[0]);
                    }
                    if seen == REQUEST {
                        let _ = stream.write_all(ANSWER);
                    }
                    seen
                })
            };
            let threads: Vec<_> = (0..connections).map(serve).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(REQUEST).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while answer.len() < ANSWER.len() && matches!(client.read(&mut byte), Ok(1)) {
            answer.push(byte[0]);
        }
        (serving.join().unwrap(), answer)
    })
}

#[test]
fn it_forwards_cuts_and_doubles_where_it_is_told_to() {
    let whole = || vec![REQUEST.to_vec()];
    assert_eq!(exchange(None), (whole(), ANSWER.to_vec()));
    for action in [Action::Cut, Action::Reset] {
        let at = |at| exchange(Some(Fault::new(at, action.clone())));
        assert_eq!(at(Point::BeforeRequest).1, b"");
        let (seen, got) = at(Point::InRequest(7));
        // What was sent before a reset may be lost on the way.
        assert!(REQUEST[..7].starts_with(&seen[0]) && got.is_empty());
        assert_eq!(at(Point::BeforeResponse), (whole(), Vec::new()));
        let (seen, got) = at(Point::InResponse(5));
        assert!(seen == whole() && ANSWER[..5].starts_with(&got));
    }
    let cut = exchange(Some(Fault::new(Point::InRequest(7), Action::Cut)));
    assert_eq!(cut, (vec![REQUEST[..7].to_vec()], Vec::new()));
    let cut = exchange(Some(Fault::new(Point::InResponse(5), Action::Cut)));
    assert_eq!(cut, (whole(), ANSWER[..5].to_vec()));
    let half = exchange(Some(Fault::new(Point::AfterRequest, Action::HalfClose)));
    assert_eq!(half, (whole(), ANSWER.to_vec()), "it may still be heard");
    let half = exchange(Some(Fault::new(Point::InRequest(7), Action::HalfClose)));
    assert_eq!(half.0, [REQUEST[..7].to_vec()]);
    let twice = exchange(Some(Fault::new(Point::AfterRequest, Action::Duplicate)));
    assert_eq!(twice, ([whole(), whole()].concat(), ANSWER.to_vec()));
}

#[test]
fn it_refuses_connections_and_accepts_them_again() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&format!("http://{}", server.local_addr().unwrap())).unwrap();
    let address = proxy.url().trim_start_matches("http://").to_owned();
    for _ in 0..3 {
        proxy.refuse(true).unwrap();
        let refused = TcpStream::connect(&address).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.refuse(false).unwrap();
        let mut client = TcpStream::connect(&address).unwrap();
        let mut served = server.accept().unwrap().0;
        client.write_all(REQUEST).unwrap();
        let mut seen = vec![0; REQUEST.len()];
        served.read_exact(&mut seen).unwrap();
        assert_eq!(seen, REQUEST);
    }
}

#[test]
fn what_it_holds_goes_on_when_the_gate_is_opened() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&format!("http://{}", server.local_addr().unwrap())).unwrap();
    let gate = proxy.gate();
    let hold = Fault::new(Point::InRequest(3), Action::Hold(gate.clone()));
    proxy.once(|_| true, hold);
    let address = proxy.url().trim_start_matches("http://").to_owned();
    let mut client = TcpStream::connect(&address).unwrap();
    client.write_all(REQUEST).unwrap();
    gate.wait_reached();
    let mut served = server.accept().unwrap().0;
    let mut seen = [0; 3];
    served.read_exact(&mut seen).unwrap();
    served.set_nonblocking(true).unwrap();
    let more = served.read(&mut seen).unwrap_err();
    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock);
    served.set_nonblocking(false).unwrap();
    gate.open();
    let mut rest = vec![0; REQUEST.len() - 3];
    served.read_exact(&mut rest).unwrap();
    assert_eq!(rest, &REQUEST[3..]);
    proxy.settle();
    assert_eq!(served.read(&mut seen).unwrap(), 0);
}
