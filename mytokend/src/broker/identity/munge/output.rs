// SPDX-License-Identifier: MIT OR Apache-2.0
//! The output of `unmunge --numeric --keys=STATUS,ENCODE_HOST,UID,LENGTH`: a line for each key, an empty line, and the payload, which may
//! look like more lines (SLURM-90).

use std::net::IpAddr;

/// A credential that MUNGE accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The address of the host where it was made, as munged there knows it. 0.0.0.0: it does not.
    pub host: IpAddr,
    /// The user who made it.
    pub uid: u32,
    /// What it encodes.
    pub payload: String,
}

/// Why there is no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDecoded {
    /// Its time has passed.
    #[error("the MUNGE credential has expired; compare the clocks of the node and the broker")]
    Expired,
    /// Its time has not begun.
    #[error("the MUNGE credential was made in the future; compare the clocks of the node and the broker")]
    Rewound,
    /// It was used before.
    #[error("the MUNGE credential was used before")]
    Replayed,
    /// Another status.
    #[error("MUNGE does not accept the credential (status {0})")]
    Status(u8),
    /// There is no status, or the output has another form.
    #[error("unmunge does not tell whether it accepts the credential")]
    NoAnswer,
}

/// Reads the output of unmunge. `success` is whether its exit status is 0.
///
/// # Errors
/// [`NotDecoded`].
pub fn parse(output: &str, success: bool) -> Result<Decoded, NotDecoded> {
    let (lines, payload) = output.split_once("\n\n").ok_or(NotDecoded::NoAnswer)?;
    let [mut status, mut host, mut uid, mut length] = [None; 4];
    for line in lines.lines() {
        let (key, value) = line.split_once(':').ok_or(NotDecoded::NoAnswer)?;
        let place = match key {
            "STATUS" => &mut status,
            "ENCODE_HOST" => &mut host,
            "UID" => &mut uid,
            "LENGTH" => &mut length,
            _ => return Err(NotDecoded::NoAnswer),
        };
        if place.replace(value.trim()).is_some() {
            return Err(NotDecoded::NoAnswer);
        }
    }
    match number(status)? {
        0 if success => {}
        15 => return Err(NotDecoded::Expired),
        16 => return Err(NotDecoded::Rewound),
        17 => return Err(NotDecoded::Replayed),
        0 => return Err(NotDecoded::NoAnswer),
        other => return Err(u8::try_from(other).map_or(NotDecoded::NoAnswer, NotDecoded::Status)),
    }
    let host = host.and_then(|host: &str| host.parse().ok()).ok_or(NotDecoded::NoAnswer)?;
    let uid = number(uid)?;
    if usize::try_from(number(length)?).ok() != Some(payload.len()) {
        return Err(NotDecoded::NoAnswer);
    }
    Ok(Decoded { host, uid, payload: payload.to_owned() })
}

/// A number in digits: `parse` alone would accept a sign.
fn number(value: Option<&str>) -> Result<u32, NotDecoded> {
    let digits = value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(NotDecoded::NoAnswer)
}
