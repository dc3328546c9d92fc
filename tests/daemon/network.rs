//! Networks as they are: proxies, hosts with several addresses, IPv6, companies' own certificates.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Launch, TOKEN};
use crate::support::backend::Answer;
use crate::support::network::{Dead, Proxy, relay};
use crate::support::world::World;

/// `me:p@ss`, as a URL, as a header and in clear.
const CREDENTIALS: [&str; 3] = ["me:p%40ss", "Basic bWU6cEBzcw==", "p@ss"];
/// A host that only the proxy knows.
const HOST: &str = "backend.test";

fn address(world: &World) -> SocketAddr {
    ([127, 0, 0, 1], world.backend.port()).into()
}

fn proxy_url(proxy: &Proxy) -> String {
    format!("http://{}@{}", CREDENTIALS[0], proxy.address())
}

/// For a backend in clear text at a host that is not this machine by its name.
fn clear_text(world: &World, host: &str) -> Launch {
    let url = format!("http://{host}:{}", world.backend.port());
    world
        .launch("cat")
        .env("WORKFORCE0_API_URL", url)
        .env("ALLOW_INSECURE", "1")
        .env("LOG_LEVEL", "trace")
}

/// A ticket of which everything has to be downloaded, and what came of it.
fn downloaded(world: &World) -> Value {
    let payload =
        json!({"title": "Downloaded", "description": "Over there.", "skills": ["one", "two"]});
    world
        .backend
        .answer("/api/tickets/T-1", Answer::data(payload));
    for slug in ["one", "two"] {
        world.backend.answer(
            &format!("/api/library/skills/{slug}"),
            Answer::data(json!({"body": "A skill."})),
        );
    }
    let result = world.outcome_with("T-1", json!({"title": null, "description": null}));
    assert_eq!(
        (&result["type"], &result["warnings"]),
        (&json!("ticket.result"), &json!([])),
        "{result}"
    );
    result
}

fn assert_no_credentials(agent: &Agent) {
    let log = agent.log();
    for secret in CREDENTIALS.iter().chain([&TOKEN]) {
        assert!(!log.contains(secret), "the log holds {secret}:\n{log}");
    }
}

/// Socket and downloads go through the proxy by CONNECT, with its credentials. The proxy resolves the host's name, and
/// no request to it holds the token.
#[test]
fn everything_goes_through_the_proxy() {
    let world = World::new();
    let proxy = Proxy::start(address(&world));
    proxy.demand(Some(CREDENTIALS[1]));
    let agent = world.registered(clear_text(&world, HOST).env("HTTP_PROXY", proxy_url(&proxy)));
    downloaded(&world);
    let heads = proxy.heads();
    let connect = format!("CONNECT {HOST}:{} HTTP/1.1\r\n", world.backend.port());
    // One for the socket, and one for all downloads of a ticket.
    assert_eq!(heads.len(), 2, "{heads:#?}");
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with(&connect) && !head.contains(TOKEN)),
        "{heads:#?}"
    );
    assert_no_credentials(&agent);
}

/// Credentials that the proxy does not take are one line that says so and where they belong; it is tried again.
#[test]
fn rejected_proxy_credentials_are_explained() {
    let world = World::new();
    let proxy = Proxy::start(address(&world));
    proxy.demand(Some("Basic b3RoZXI6cGFzc3dvcmQ="));
    let agent = clear_text(&world, HOST)
        .env("HTTP_PROXY", proxy_url(&proxy))
        .start();
    for _ in 0..2 {
        let line = agent.logged("next try");
        assert!(
            line.contains("407") && line.contains("HTTP_PROXY"),
            "{line}"
        );
    }
    proxy.demand(Some(CREDENTIALS[1]));
    world.backend.frame("agent.register");
    assert_no_credentials(&agent);
}

/// If a proxy refuses, is missing, or is not a proxy, the message names it and says what to do. A proxy's answer is
/// never taken for the backend's.
#[test]
fn a_proxy_that_does_not_serve_is_explained() {
    for (answer, wanted) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", ["403", "NO_PROXY"]),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", ["401", "NO_PROXY"]),
        ("HTTP/1.1 426 Upgrade Required\r\n\r\n", ["426", "NO_PROXY"]),
        (
            "HTTP/1.1 502 \x1b[31mBad\r\nX: y\r\n\r\n",
            ["502", "NO_PROXY"],
        ),
        (
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
            ["not HTTP", "as a proxy does"],
        ),
        ("HTTP/1.1 200 OK\r\n", ["hung up", "as a proxy does"]),
    ] {
        let world = World::new();
        let proxy = Proxy::start(address(&world));
        proxy.refuse(Some(answer));
        let agent = clear_text(&world, HOST)
            .env("ALL_PROXY", proxy_url(&proxy))
            .start();
        let line = agent.logged("next try");
        assert!(
            wanted.iter().all(|word| line.contains(word)),
            "{answer:?}: {line}"
        );
        assert!(
            !line.contains('\x1b') && line.contains(&proxy.address()),
            "{line}"
        );
        proxy.refuse(None);
        world.backend.frame("agent.register");
        assert_no_credentials(&agent);
    }
    let world = World::new();
    let unused = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let agent = clear_text(&world, HOST)
        .env("HTTP_PROXY", format!("http://{}@{unused}", CREDENTIALS[0]))
        .start();
    let line = agent.logged("next try");
    assert!(
        line.contains(&unused.to_string()) && line.contains("HTTP_PROXY"),
        "{line}"
    );
    assert_no_credentials(&agent);
}

/// A download that the proxy refuses fails with the same words.
#[test]
fn a_refused_download_is_explained() {
    let world = World::new();
    let proxy = Proxy::start(address(&world));
    let agent = world.registered(clear_text(&world, HOST).env("HTTP_PROXY", proxy_url(&proxy)));
    proxy.refuse(Some("HTTP/1.1 403 Forbidden\r\n\r\n"));
    let fail = world.outcome_with("T-1", json!({"title": null, "description": null}));
    let error = fail["error"].as_str().unwrap();
    assert_eq!(fail["code"], "payload_unavailable", "{fail}");
    assert!(
        error.contains("403") && error.contains("NO_PROXY") && error.contains(&proxy.address()),
        "{error}"
    );
    assert!(!fail.to_string().contains(CREDENTIALS[2]), "{fail}");
    assert_no_credentials(&agent);
}

/// What NO_PROXY names is reached without, and so is this machine; a name in lower case and a flag count too.
#[test]
fn exempt_hosts_are_reached_without_the_proxy() {
    type Row = (&'static str, &'static [(&'static str, &'static str)], bool);
    let rows: [Row; 6] = [
        ("0.0.0.0", &[("NO_PROXY", "10.0.0.0/8, 0.0.0.0/8")], false),
        ("0.0.0.0", &[("no_proxy", "*")], false),
        ("localhost", &[], false),
        ("127.0.0.1", &[], false),
        ("0.0.0.0", &[("NO_PROXY", "10.0.0.0/8,example.com")], true),
        ("0.0.0.0", &[], true),
    ];
    for (host, settings, through) in rows {
        let world = World::new();
        let proxy = Proxy::start(address(&world));
        let launch = clear_text(&world, host).env("http_proxy", proxy_url(&proxy));
        let _agent = world.registered(
            settings
                .iter()
                .fold(launch, |launch, (name, value)| launch.env(name, *value)),
        );
        assert_eq!(!proxy.heads().is_empty(), through, "{host} {settings:?}");
    }
    let world = World::new();
    let proxy = Proxy::start(address(&world));
    let launch = clear_text(&world, HOST).env("HTTP_PROXY", "http://127.0.0.1:1");
    let _agent = world.registered(launch.arg("--http-proxy").arg(&proxy.address()));
    assert_eq!(proxy.heads().len(), 1);
}

/// The CLI gets the user's own proxy from the environment, and none from `.env`; a wrong one stops the start unseen.
#[test]
fn the_cli_gets_the_users_own_proxy() {
    let world = World::new();
    fs::write(
        world.path(".env"),
        "HTTP_PROXY=http://me:p%40ss@127.0.0.1:9\nNO_PROXY=*\n",
    )
    .unwrap();
    let launch = world
        .launch("env")
        .env("HTTPS_PROXY", "http://me:own@proxy.test:1")
        .env("no_proxy", "own.test");
    let _agent = world.registered(launch);
    let environment = world.outcome_of("T-1")["stdout"]
        .as_str()
        .unwrap()
        .to_owned();
    let of_proxies: Vec<_> = environment
        .lines()
        .filter(|line| line.to_ascii_uppercase().contains("_PROXY="))
        .collect();
    assert_eq!(of_proxies.len(), 2, "{of_proxies:?}");
    assert!(
        of_proxies.contains(&"HTTPS_PROXY=http://me:own@proxy.test:1"),
        "{of_proxies:?}"
    );
    assert!(of_proxies.contains(&"no_proxy=own.test"), "{of_proxies:?}");
}

/// A proxy or a file of roots that cannot be used is one line and exit code 78, and no password is in it.
#[test]
fn unusable_settings_end_the_start() {
    let world = World::new();
    let rows = [
        (
            "HTTP_PROXY",
            format!("socks5://{}@proxy.test:1", CREDENTIALS[0]),
        ),
        (
            "HTTP_PROXY",
            format!("http://{}@proxy.test:99999", CREDENTIALS[0]),
        ),
        ("SSL_CERT_FILE", "/no/such/file.pem".to_owned()),
        ("SSL_CERT_DIR", world.state().display().to_string()),
    ];
    for (name, value) in rows {
        let ended = clear_text(&world, HOST).env(name, &value).output();
        assert_eq!(ended.code, 78, "{name}={value}: {ended:?}");
        assert!(
            ended.stderr.contains(name) && ended.stderr.lines().count() == 1,
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains(CREDENTIALS[0]), "{}", ended.stderr);
    }
}

/// The demo needs no network, even if the user's settings name a proxy.
#[cfg(feature = "tools")]
#[test]
fn the_demo_needs_no_proxy() {
    let world = World::new();
    let launch = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .env("http_proxy", "socks5://nowhere.test");
    let launch = launch
        .env("ALL_PROXY", "::")
        .env("SSL_CERT_FILE", "/no/such/file")
        .env("ssl_cert_dir", "/none");
    let demo = launch.arg("demo").output();
    assert_eq!(demo.code, 0, "{}\n{}", demo.stdout, demo.stderr);
}

/// A backend at an IPv6 address is reached, its downloads too.
#[test]
fn a_backend_at_an_ipv6_address_is_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no ::1");
        return;
    };
    let world = World::new();
    let url = format!("http://{}", listener.local_addr().unwrap());
    relay(listener, address(&world));
    let _agent = world.registered(world.launch("cat").env("WORKFORCE0_API_URL", url));
    downloaded(&world);
}

/// The first address of a host that answers is used: one that refuses or is dead does no harm, and leaves time for what
/// follows.
#[test]
fn a_dead_address_does_not_matter() {
    let world = World::new();
    let refusing = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let dead = Dead::at("127.0.0.1:0");
    if dead.is_none() {
        eprintln!("not all of it: this machine answers every connection");
    }
    let silent: Vec<_> = dead.iter().map(|dead| dead.address).collect();
    let limit = Duration::from_secs(8);
    let until = Instant::now() + limit;
    let addresses: Vec<_> = [vec![refusing], silent, vec![address(&world)]].concat();
    let stream = wf0_agent::net::connect(&addresses, until).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address(&world));
    let left = until.saturating_duration_since(Instant::now());
    assert!(left > limit / 4, "{left:?} of {limit:?} are left");
}

/// A name with an IPv6 and an IPv4 address, of which only the second is served, is reached.
#[test]
fn a_name_with_two_addresses_is_reached() {
    let world = World::new();
    let both: Vec<_> = ("localhost", world.backend.port())
        .to_socket_addrs()
        .unwrap()
        .collect();
    if both.len() < 2 || TcpStream::connect(both[0]).is_ok() {
        eprintln!("skipped: localhost has one address here, or the first is served: {both:?}");
        return;
    }
    let url = format!("http://localhost:{}", world.backend.port());
    let _agent = world.registered(world.launch("true").env("WORKFORCE0_API_URL", url));
}

/// TLS. The certificates are made with OpenSSL, which the daemon has on Linux.
#[cfg(target_os = "linux")]
mod tls {
    use std::io::{Read, Write};

    use super::*;
    use crate::support::network::serve;
    use crate::support::tls::{Identity, Validity, terminate};

    fn launch(world: &World, port: u16) -> Launch {
        let url = format!("https://localhost:{port}");
        world
            .launch("cat")
            .env("WORKFORCE0_API_URL", url)
            .env("LOG_LEVEL", "trace")
    }

    /// A company's own authority is unknown until SSL_CERT_FILE or SSL_CERT_DIR names it, for downloads as well.
    /// Until then the agent sends nothing, and the log says what to do.
    #[test]
    fn a_companys_own_authority_has_to_be_named() {
        let world = World::new();
        let authority = Identity::authority();
        let port = terminate(&authority.sign("localhost", Validity::Now), address(&world));
        let folder = world.path("roots");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("README"), "Not a certificate.").unwrap();
        let file = folder.join("company.pem");
        fs::write(
            &file,
            format!(
                "Our own:\n{}{}",
                Identity::authority().pem(),
                authority.pem()
            ),
        )
        .unwrap();

        let agent = launch(&world, port).start();
        let line = agent.logged("next try");
        assert!(
            line.contains("SSL_CERT_FILE") && line.contains("localhost"),
            "{line}"
        );
        drop(agent);
        assert!(
            world.backend.requests().is_empty(),
            "{:?}",
            world.backend.requests()
        );

        let agent = world.registered(launch(&world, port).env("SSL_CERT_FILE", &file));
        downloaded(&world);
        assert!(
            world
                .backend
                .requests()
                .iter()
                .all(|request| request.headers.contains_key("authorization"))
        );
        drop(agent);
        let agent = world.registered(launch(&world, port).env("SSL_CERT_DIR", &folder));
        drop(agent);
        let _agent = world.registered(
            launch(&world, port)
                .arg("--ssl-cert-file")
                .arg(file.to_str().unwrap()),
        );
    }

    /// A certificate for another host, one that has expired, one that is not yet valid and a port without TLS are told
    /// apart, and the token goes to none of them.
    #[test]
    fn wrong_certificates_are_told_apart() {
        let world = World::new();
        let authority = Identity::authority();
        let roots = world.path("roots.pem");
        fs::write(&roots, authority.pem()).unwrap();
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let port_of_plain = plain.local_addr().unwrap().port();
        serve(plain, |mut stream| {
            stream.read_exact(&mut [0])?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        });
        let port = |host, validity| terminate(&authority.sign(host, validity), address(&world));
        for (port, wanted) in [
            (port("other.test", Validity::Now), "another host name"),
            (port("localhost", Validity::Past), "has expired"),
            (port("localhost", Validity::Future), "not yet valid"),
            (port_of_plain, "does not speak TLS"),
        ] {
            let agent = launch(&world, port).env("SSL_CERT_FILE", &roots).start();
            let line = agent.logged("next try");
            assert!(line.contains(wanted), "{wanted}: {line}");
        }
        let requests = world.backend.requests();
        assert!(requests.is_empty(), "{requests:?}");
    }

    /// Through a proxy, TLS is spoken with the backend: what passes the proxy never shows the token.
    #[test]
    fn a_proxy_sees_no_token() {
        let world = World::new();
        let authority = Identity::authority();
        let roots = world.path("roots.pem");
        fs::write(&roots, authority.pem()).unwrap();
        let port = terminate(&authority.sign(HOST, Validity::Now), address(&world));
        let proxy = Proxy::start(([127, 0, 0, 1], port).into());
        proxy.demand(Some(CREDENTIALS[1]));
        let url = format!("https://{HOST}");
        let launch = world
            .launch("cat")
            .env("WORKFORCE0_API_URL", url)
            .env("SSL_CERT_FILE", &roots);
        let agent = world.registered(
            launch
                .env("HTTPS_PROXY", proxy_url(&proxy))
                .env("LOG_LEVEL", "trace"),
        );
        downloaded(&world);
        let heads = proxy.heads();
        assert_eq!(heads.len(), 2, "{heads:#?}");
        assert!(
            heads
                .iter()
                .all(|head| head.starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n"))),
            "{heads:#?}"
        );
        let passed = [heads.concat().into_bytes(), proxy.tunneled()].concat();
        assert!(
            passed.len() > 1000
                && !passed
                    .windows(TOKEN.len())
                    .any(|part| part == TOKEN.as_bytes())
        );
        assert_no_credentials(&agent);
    }
}

/// OpenSSL's own settings, which a variable or a file may name, bring no code into the daemon: the one that is built
/// in is built without the means to load any.
#[cfg(all(target_os = "linux", feature = "vendored-tls"))]
#[test]
fn openssl_loads_no_library() {
    use std::process::Command;
    let world = World::new();
    let (ran, library) = (world.path("ran"), world.path("planted.so"));
    let source = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void f(void) {{ fclose(fopen(\"{}\", \"w\")); }}\n",
        ran.display()
    );
    fs::write(world.path("planted.c"), source).unwrap();
    let compile = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &world.path("planted.c")])
        .status();
    assert!(compile.unwrap().success());
    Command::new("/bin/true")
        .env("LD_PRELOAD", &library)
        .status()
        .unwrap();
    fs::remove_file(&ran).expect("loaded, the library leaves its mark");

    let settings = format!(
        "openssl_conf = all\n[all]\nproviders = them\n[them]\ndefault = own\nplanted = it\n[own]\nactivate = 1\n\
         [it]\nmodule = {}\nactivate = 1\n",
        library.display()
    );
    fs::write(world.path("openssl.cnf"), settings).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let launch = world
        .launch("true")
        .env("WORKFORCE0_API_URL", url)
        .env("OPENSSL_CONF", world.path("openssl.cnf"));
    let agent = launch.start();
    drop(listener.accept().unwrap());
    agent.logged("not connected");
    assert!(
        !ran.exists(),
        "a library of somebody's choice was loaded:\n{}",
        agent.log()
    );
}
