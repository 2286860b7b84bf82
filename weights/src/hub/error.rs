//! What can go wrong on the way to the hub, whether it is worth another attempt, and what the user can do about it.

use std::{io::ErrorKind, time::Duration};

use super::{Kind, Repo};
use crate::Error;

/// A failed request, before it is known what it was for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection: no network, no such host, nobody listening, a certificate that is not trusted.
    Unreachable(String),
    /// A connection, but no byte for as long as the timeout allows.
    Silent,
    /// The connection broke off.
    Cut(String),
    /// An answer with an error status.
    Status { status: u16, code: String, message: String, retry_after: Option<Duration> },
    /// An answer that is not what the protocol says.
    Malformed(String),
}

impl Trouble {
    /// Whether the same request may well succeed a moment later. Having waited for a timeout once is enough.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Cut(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether the hub, rather than what was asked of it, is the problem, so that the cache may stand in for it.
    pub(super) fn is_absence(&self) -> bool {
        self.is_passing() || matches!(self, Self::Unreachable(_) | Self::Silent)
    }

    /// Whether the hub has no listing of files for this repository: some mirrors serve the files alone.
    pub(super) fn is_no_listing(&self) -> bool {
        match self {
            Self::Malformed(_) => true,
            Self::Status { status: 404, code, .. } => code != "RepoNotFound" && code != "RevisionNotFound",
            Self::Status { status, .. } => matches!(status, 405 | 501),
            _ => false,
        }
    }

    /// The error for the user: what was asked for, what happened, and what to do.
    pub(super) fn into_error(self, repo: &Repo, endpoint: &str, has_token: bool, timeout: Duration) -> Error {
        let instead = match repo.kind {
            Kind::Model => {
                "use the bundled vit_small_patch14_dinov2.saliency, a local folder, or HF_HUB_OFFLINE=1 with a filled cache"
            }
            Kind::Dataset => "use the bundled mnist, a local folder, or HF_HUB_OFFLINE=1 with a filled cache",
        };
        let page = format!("{endpoint}/{}{}", repo.kind.url_prefix(), repo.id);
        let (problem, remedy) = match self {
            Self::Unreachable(why) => {
                (format!("cannot reach {endpoint}: {why}"), format!("check the network and HF_ENDPOINT, or {instead}"))
            }
            Self::Silent => (
                format!("no answer from {endpoint} for {} s", timeout.as_secs_f32()),
                format!("try again later, or {instead}"),
            ),
            Self::Cut(why) => {
                (format!("the connection to {endpoint} broke off: {why}"), format!("try again, or {instead}"))
            }
            Self::Malformed(what) => (
                format!("{endpoint} answered with {what}"),
                format!("check that HF_ENDPOINT is a Hugging Face hub, or {instead}"),
            ),
            Self::Status { status, code, message, retry_after } => {
                let message = if message.is_empty() { String::new() } else { format!(": {message}") };
                let remedy = match (status, code.as_str()) {
                    (_, "RevisionNotFound") => format!("check the revision {:?} at {page}", repo.revision),
                    (404, _) | (_, "RepoNotFound") => {
                        let listed = match repo.kind {
                            Kind::Model => "`tallow list` shows the models of the zoo, ",
                            Kind::Dataset => "",
                        };
                        format!(
                            "check the spelling and the revision ({listed}{page} the page); if it is private, set HF_TOKEN"
                        )
                    }
                    (401, _) if has_token => {
                        format!("check that HF_TOKEN is still valid and may read {page}, and accept the licence there")
                    }
                    (401, _) => format!("set HF_TOKEN to a token that may read {page}, and accept the licence there"),
                    (403, _) if has_token => {
                        format!("accept the licence at {page}, and check that the token in HF_TOKEN may read it")
                    }
                    (403, _) => format!("accept the licence at {page}, and set HF_TOKEN"),
                    (429, _) => match retry_after {
                        Some(wait) => format!("wait {} s and try again; HF_TOKEN raises the limit", wait.as_secs()),
                        None => "wait a while and try again; HF_TOKEN raises the limit".into(),
                    },
                    _ => format!("try again later, or {instead}"),
                };
                let meaning = match (status, code.as_str()) {
                    (_, "RevisionNotFound") => "no such revision",
                    (404, _) | (_, "RepoNotFound") => "not found",
                    (401, _) => "access needs a token",
                    (403, _) => "access is not granted",
                    (429, _) => "too many requests",
                    _ => "the hub failed",
                };
                (format!("{meaning} (HTTP {status}{message})"), remedy)
            }
        };
        Error::Hub { place: repo.to_string(), problem, remedy }
    }
}

impl From<ureq::Error> for Trouble {
    fn from(error: ureq::Error) -> Self {
        use ureq::{Error as E, Timeout};
        let why = || one_line(&root_cause(&error));
        match &error {
            E::Timeout(Timeout::Resolve | Timeout::Connect) => Self::Unreachable("no connection in time".into()),
            E::Timeout(_) => Self::Silent,
            E::HostNotFound => Self::Unreachable("no such host".into()),
            E::ConnectionFailed | E::InvalidProxyUrl | E::ConnectProxyFailed(_) | E::Tls(_) | E::Rustls(_) => {
                Self::Unreachable(why())
            }
            E::Io(source) => match source.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::AddrNotAvailable
                | ErrorKind::PermissionDenied => Self::Unreachable(why()),
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Silent,
                // What TLS found wrong arrives as invalid data.
                ErrorKind::InvalidData => Self::Unreachable(why()),
                _ => Self::Cut(why()),
            },
            _ => Self::Malformed(why()),
        }
    }
}

/// The innermost of an error's causes, which says what happened instead of where.
fn root_cause(error: &ureq::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A server's words, fit for one line of a terminal.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_string()
}
