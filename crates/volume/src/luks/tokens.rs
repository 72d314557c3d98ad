//! The header's tokens through cryptsetup: written by it, read by ourselves where the header is unharmed, and by it where
//! not. What they mean is `seal`'s.

use std::fs::File;
use std::io;
use std::sync::PoisonError;

use zeroize::Zeroizing;

use super::{LuksVolume, Metadata};
use crate::commands::{DUMP_LIMIT_BYTES, make_lock_directory};
use crate::header::{self, HELD_SLOT, Tokens};
use crate::program::Finished;
use crate::seal::HELD_TOKEN_LIMIT_BYTES;
use crate::uuid::uuid_text;
use crate::{Damage, Held, ProbeError, RunError, SealedRecord, WriteStateError};

impl LuksVolume {
    pub(super) fn export_token(&self, slot: &str, limit: usize) -> Result<Finished, RunError> {
        let device = self.device_name();
        let arguments = ["token", "export", "--batch-mode", "--token-id", slot, "--json-file", "-", &device];
        self.cryptsetup(&arguments, b"", limit + 1)
    }

    pub(super) fn tokens_of_unharmed(&self) -> io::Result<Option<Tokens>> {
        header::tokens_of_unharmed(&File::open(&self.device)?)
    }

    /// Puts the token into its slot and sees that it is there.
    pub(super) fn import_token(
        &self,
        slot: &str,
        volume_uuid: [u8; 16],
        json: &[u8],
    ) -> Result<(), WriteStateError> {
        let device = self.device_name();
        let device_error = |source| WriteStateError::Device { device: device.clone(), source };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_leaving().map_err(device_error)? {
            return Err(WriteStateError::Leaving { device });
        }
        let found = self.read_header().map_err(device_error)?;
        let header_uuid = found
            .and_then(|found| found.uuid)
            .ok_or_else(|| WriteStateError::NoHeader { device: device.clone() })?;
        if header_uuid != volume_uuid {
            let (state, header) = (uuid_text(volume_uuid), uuid_text(header_uuid));
            return Err(WriteStateError::OtherVolume { device, state, header });
        }
        make_lock_directory(&self.device).map_err(device_error)?;
        let arguments = [
            "token",
            "import",
            "--batch-mode",
            "--token-id",
            slot,
            "--json-file",
            "-",
            "--token-replace",
            &device,
        ];
        self.cryptsetup(&arguments, json, 4096)
            .and_then(|finished| finished.success(&self.programs.cryptsetup))
            .map_err(|source| WriteStateError::Import { device: device.clone(), source })?;
        self.sync_device().map_err(device_error)?;
        let tokens = self.tokens_of_unharmed().map_err(device_error)?;
        let seen = tokens.and_then(|tokens| if slot == HELD_SLOT { tokens.held } else { tokens.node });
        if seen.is_some_and(|seen| *seen == *json) {
            return Ok(());
        }
        // cryptsetup has the last word on what a header says.
        let stored = self
            .export_token(slot, json.len())
            .and_then(|finished| finished.success(&self.programs.cryptsetup))
            .map_err(|source| WriteStateError::ReadBack { device: device.clone(), source })?;
        if *stored == *json { Ok(()) } else { Err(WriteStateError::NotStored { device }) }
    }

    /// The token of held shares in a header that only cryptsetup can read.
    fn export_held(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ProbeError> {
        let device = self.device_name();
        let failed = |source| ProbeError::Export { device: device.clone(), source };
        let dump = self
            .cryptsetup(&["luksDump", "--batch-mode", "--dump-json-metadata", &device], b"", DUMP_LIMIT_BYTES)
            .map_err(failed)?;
        if dump.code != 0 {
            return Err(self.damaged(Damage::Header { why: dump.stderr }));
        }
        let metadata: Metadata = serde_json::from_slice(&dump.stdout)
            .map_err(|source| self.damaged(Damage::TokenSyntax(source)))?;
        if !metadata.tokens.contains_key(HELD_SLOT) {
            return Ok(None);
        }
        let export = self
            .export_token(HELD_SLOT, HELD_TOKEN_LIMIT_BYTES)
            .and_then(|finished| finished.success(&self.programs.cryptsetup));
        export.map(Some).map_err(|source| match source {
            RunError::OutputTooLong { .. } => {
                self.damaged(Damage::TokenTooLong { limit: HELD_TOKEN_LIMIT_BYTES })
            }
            source => failed(source),
        })
    }

    /// What is held, out of its token.
    pub(super) fn held_token(&self) -> Result<Option<(Held, SealedRecord)>, ProbeError> {
        let device = self.device_name();
        let read = |source| ProbeError::Read { device: device.clone(), source };
        let token = match self.tokens_of_unharmed().map_err(read)? {
            Some(tokens) => tokens.held,
            None => self.export_held()?,
        };
        let Some(token) = token else { return Ok(None) };
        let (held, sealed) =
            SealedRecord::held_from_token_json(&token).map_err(|source| self.damaged(source))?;
        let header_uuid = self.read_header().map_err(read)?.and_then(|found| found.uuid);
        if header_uuid != Some(held.volume_uuid()) {
            return Err(self.damaged(Damage::OtherVolume {
                token: uuid_text(held.volume_uuid()),
                header: header_uuid.map_or_else(|| "of no readable UUID".to_owned(), uuid_text),
            }));
        }
        Ok(Some((held, sealed)))
    }
}
