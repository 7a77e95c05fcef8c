//! The sockets: one port for each service, which can be closed and reopened under the same number.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::http;
use crate::lock;
use crate::reply::Answer;
use crate::service::Service;
use crate::shared::Shared;

/// A port. A second socket stays bound and never listens: while the listener is closed, connections
/// are refused and no other program can take the port.
struct Port {
    service: Service,
    address: SocketAddr,
    _reserved: TcpSocket,
    open: Mutex<Option<Listener>>,
}

struct Listener {
    close: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

pub(crate) struct Listeners {
    ports: [Port; 4],
    tls: TlsAcceptor,
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Port {
    fn reserve(service: Service) -> io::Result<Self> {
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { service, address: reserved.local_addr()?, _reserved: reserved, open: Mutex::default() })
    }
}

impl Listeners {
    pub(crate) fn reserve(tls: Arc<ServerConfig>) -> io::Result<Self> {
        let [a, b, c, d] = Service::ALL.map(Port::reserve);
        Ok(Self { ports: [a?, b?, c?, d?], tls: TlsAcceptor::from(tls) })
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; 4] {
        self.ports.each_ref().map(|port| port.address)
    }

    pub(crate) fn open(self: &Arc<Self>, shared: &Arc<Shared>, service: Service) -> io::Result<()> {
        let Some(port) = self.ports.iter().find(|port| port.service == service) else { return Ok(()) };
        let mut open = lock(&port.open);
        if open.is_some() {
            return Ok(());
        }
        let listener = bind(port.address)?.listen(4096)?;
        let (close, closed) = watch::channel(false);
        let accepting = tokio::spawn(accept(self.clone(), shared.clone(), service, listener, closed));
        *open = Some(Listener { close, accepting });
        Ok(())
    }

    /// Closes a service's port. Further connections are refused, and open ones are dropped.
    pub(crate) async fn close(&self, service: Service) {
        let listener = self.ports.iter().find(|port| port.service == service).and_then(|port| lock(&port.open).take());
        if let Some(listener) = listener {
            let _ = listener.close.send(true);
            let _ = listener.accepting.await;
        }
    }
}

async fn accept(
    listeners: Arc<Listeners>,
    shared: Arc<Shared>,
    service: Service,
    listener: TcpListener,
    mut closed: watch::Receiver<bool>,
) {
    loop {
        let stream = tokio::select! {
            _ = closed.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Usually the process is out of descriptors, and other connections will free
                    // some.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        let (listeners, shared, mut closed) = (listeners.clone(), shared.clone(), closed.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = closed.changed() => {}
                () = serve(listeners, shared, service, stream) => {}
            }
        });
    }
}

async fn serve(listeners: Arc<Listeners>, shared: Arc<Shared>, service: Service, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    if !service.tls() {
        return serve_connection(listeners, shared, service, stream).await;
    }
    if let Ok(stream) = listeners.tls.accept(stream).await {
        serve_connection(listeners.clone(), shared, service, stream).await;
    }
}

/// A connection that can be reset.
trait Reset {
    fn reset(self);
}

impl Reset for TcpStream {
    fn reset(self) {
        let _ = self.set_zero_linger();
    }
}

impl Reset for TlsStream<TcpStream> {
    fn reset(self) {
        self.into_inner().0.reset();
    }
}

async fn serve_connection<S>(listeners: Arc<Listeners>, shared: Arc<Shared>, service: Service, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Reset,
{
    let answer = service_fn(|request| {
        Box::pin(async {
            match http::answer(&shared, &listeners, service, request).await {
                Answer::Reply(reply) => Ok(reply),
                Answer::Reset => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let stream = connection.into_parts().io.into_inner();
    match ended {
        Ok(()) => {
            let mut stream = stream;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        }
        Err(_) => stream.reset(),
    }
}
