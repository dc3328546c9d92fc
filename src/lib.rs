//! wf0-agent runs WorkForce0 tickets with the coding CLI on a developer's own machine.
//!
//! It opens one outbound WebSocket to the backend, says what it can do, takes tickets, runs the CLI in the right
//! repository under a time limit, and sends back stdout, exit code and diff. Source code goes
//! nowhere else, but for a branch that the backend names, which is pushed to the repository's own origin.
//!
//! # Rooms
//!
//! [`domain`] is policy, and pure. [`link`] is the connection to the backend, [`job`] is the carrying out of
//! tickets; neither knows the other, both stand on `domain`. [`daemon`] wires them together. Below all three are
//! [`config`], [`store`], [`environment`], [`net`], [`times`] and [`wire`]. Every import points down.
//!
//! # Threads
//!
//! | thread | life | owns |
//! |---|---|---|
//! | main | the process | socket, TLS and WebSocket state, the [`Session`](domain::session::Session) |
//! | `worker-N` | the process | one run at a time |
//! | `wait` | a program's run | the child process, under its time limit |
//! | `drain` | a program's run | the child's output pipes |
//! | `version` | a question | nothing; it asks the CLI for its version |
//! | `dial` | an attempt to connect | a socket that is not yet open |
//! | `lookup` | a name lookup | nothing; it may outlast whoever asked |
//! | `goodbye` | at most a second | a socket that is being closed |
//! | `log` | the process | the terminal, or wherever the log goes |
//! | `ctrl-c` | the process | nothing; it passes signals on |
//! | `keyboard` | the process | nothing; it passes answers on, where a person is asked |
//!
//! As a Windows service the daemon is on a thread of the service manager's making, and main waits for it.
//!
//! # Invariants
//!
//! * Every claimed ticket ends with exactly one outcome.
//! * Nothing but the hub's `auth` is sent on a connection before the register.
//! * There are never more runs than slots, nor two at once in one work tree.
//! * A run's processes are gone before its outcome is posted.
//! * The token is in no argument, child's environment, log line, error or file, and in no frame but the hub's `auth`.

pub mod checks;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod environment;
pub mod job;
pub mod link;
pub mod net;
pub mod store;
pub mod times;
pub mod wire;
