//! Every other program: a script, aider, an editor's CLI. It gets the prompt on standard input and no arguments, and
//! what it prints is its message, unless that is what one of the known CLIs prints.

use super::{Args, Known, Login};

pub const KNOWN: Known = Known {
    programs: &[],
    subscription: "",
    args: Args {
        edits: "",
        commands: "",
        all: "",
    },
    has_no: &[],
    needs: &[],
    variadic: &[],
    is_safer_with_stdin: false,
    login: Login {
        file: None,
        variables: &[],
    },
    is_own: |_| false,
    read: |_, _| {},
};
