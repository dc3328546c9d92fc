//! The HTTP client: ureq's HTTP over the daemon's own streams, so that proxy and TLS are as they are for the socket.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};

use crate::net::{Route, Stream};

/// `limit` is for one request, from the name lookup to the last byte.
pub fn agent(route: Route, limit: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(limit))
        .user_agent(concat!("wf0-agent/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::with_parts(config, Opener { route, limit }, NoResolver)
}

/// What went wrong, in the words of whoever knows most about it.
pub fn words(error: Error) -> String {
    match error {
        Error::Other(own) => own.to_string(),
        other => other.to_string(),
    }
}

#[derive(Debug)]
struct Opener {
    route: Route,
    limit: Duration,
}

impl Connector for Opener {
    type Out = Open;

    /// Whatever the request names, the way leads to the backend and nowhere else.
    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Open>, Error> {
        let stream = self
            .route
            .open(deadline(details.timeout, self.limit))
            .map_err(|why| Error::Other(why.into()))?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Open {
            stream,
            buffers,
            limit: self.limit,
        }))
    }
}

/// The addresses are looked up when the way is opened: through a proxy, it is the proxy's that matter.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

#[derive(Debug)]
struct Open {
    stream: Stream,
    buffers: LazyBuffers,
    limit: Duration,
}

impl Transport for Open {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream
            .wire()
            .set_deadline(deadline(timeout, self.limit));
        self.stream
            .write_all(&self.buffers.output()[..amount])
            .map_err(|e| late(e, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream
            .wire()
            .set_deadline(deadline(timeout, self.limit));
        let read = self
            .stream
            .read(self.buffers.input_append_buf())
            .map_err(|e| late(e, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.wire().is_quiet()
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request may take is no policy"
)]
fn deadline(timeout: NextTimeout, limit: Duration) -> Instant {
    Instant::now() + (*timeout.after).min(limit)
}

fn late(e: io::Error, timeout: NextTimeout) -> Error {
    if e.kind() == ErrorKind::TimedOut {
        Error::Timeout(timeout.reason)
    } else {
        e.into()
    }
}
