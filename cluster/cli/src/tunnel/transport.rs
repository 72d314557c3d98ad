//! The tunnel as the HTTP client wants it: a connector whose connections are those of the tunnel's TCP.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::{Tunnel, TunnelError};

/// What one wait may take when the client names no limit; it always does.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct TunnelConnector {
    tunnel: Arc<Mutex<Tunnel>>,
}

impl TunnelConnector {
    pub fn new(tunnel: Tunnel) -> Self {
        Self { tunnel: Arc::new(Mutex::new(tunnel)) }
    }
}

impl fmt::Debug for TunnelConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelConnector")
    }
}

impl Connector for TunnelConnector {
    type Out = TunnelTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<TunnelTransport>, ureq::Error> {
        let port = details.uri.port_u16().unwrap_or(80);
        let handle = lock(&self.tunnel)
            .connect(port, deadline(&details.timeout))
            .map_err(|error| translate(error, &details.timeout))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(TunnelTransport { tunnel: Arc::clone(&self.tunnel), handle, buffers }))
    }
}

pub struct TunnelTransport {
    tunnel: Arc<Mutex<Tunnel>>,
    handle: SocketHandle,
    buffers: LazyBuffers,
}

impl Transport for TunnelTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = &self.buffers.output()[..amount];
        lock(&self.tunnel)
            .send(self.handle, output, deadline(&timeout))
            .map_err(|error| translate(error, &timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let amount = lock(&self.tunnel)
            .receive(self.handle, input, deadline(&timeout))
            .map_err(|error| translate(error, &timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        lock(&self.tunnel).is_open(self.handle)
    }
}

impl Drop for TunnelTransport {
    fn drop(&mut self) {
        lock(&self.tunnel).close(self.handle);
    }
}

impl fmt::Debug for TunnelTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelTransport")
    }
}

fn deadline(timeout: &NextTimeout) -> Instant {
    Instant::now() + (*timeout.after).min(LIMIT)
}

/// Late answers are the client's own kind of error; the rest keep their words.
fn translate(error: TunnelError, timeout: &NextTimeout) -> ureq::Error {
    match error {
        TunnelError::TimedOut(_) => ureq::Error::Timeout(timeout.reason),
        TunnelError::Refused => io::Error::new(io::ErrorKind::ConnectionRefused, error).into(),
        TunnelError::Cut => io::Error::new(io::ErrorKind::ConnectionReset, error).into(),
        error => io::Error::other(error).into(),
    }
}

fn lock(tunnel: &Mutex<Tunnel>) -> MutexGuard<'_, Tunnel> {
    tunnel.lock().unwrap_or_else(PoisonError::into_inner)
}
