//! The state of the CLI's quota on disk, so that a restart does not try in vain.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::record::{read_json, write_json};
use super::{Store, set_aside};
use crate::domain::quota::Quota;
use crate::times::{from_millis, millis};

#[derive(Serialize, Deserialize)]
struct QuotaRecord {
    /// The quota of one CLI says nothing about another's.
    cli: String,
    until_ms: Option<u64>,
    is_told: bool,
    guesses: u32,
}

impl Store {
    /// What was last known of that CLI's quota. What cannot be read is set aside.
    pub fn quota(&self, cli: &str) -> Quota {
        let path = self.quota_path();
        match read_json::<QuotaRecord>(&path) {
            Ok(Some(QuotaRecord {
                cli: own,
                until_ms,
                is_told,
                guesses,
            })) if own == cli => Quota {
                until: until_ms.map(from_millis),
                is_told,
                guesses,
            },
            Ok(_) => Quota::default(),
            Err(e) => {
                set_aside(&path, &e);
                Quota::default()
            }
        }
    }

    pub fn keep_quota(&self, cli: &str, quota: Quota) -> io::Result<()> {
        let Quota {
            until,
            is_told,
            guesses,
        } = quota;
        let record = QuotaRecord {
            cli: cli.to_owned(),
            until_ms: until.map(millis),
            is_told,
            guesses,
        };
        write_json(&self.quota_path(), &record)
    }

    fn quota_path(&self) -> PathBuf {
        self.root.join("quota.json")
    }
}
