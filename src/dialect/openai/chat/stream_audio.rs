//! A spoken answer that comes in pieces, put together: each piece is base64 by itself.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{message_in, rest};
use crate::chat::{Extra, ExtraMember, Media, MediaKind, Source};
use crate::dialect::Garbled;
use crate::json::{At, Members, Writer};

/// Six minutes of what OpenAI streams: 24 kHz, 16 bit.
const MOST: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Audio {
    id: String,
    transcript: String,
    expires: Option<u64>,
    sound: Vec<u8>,
}

impl Audio {
    /// One `delta.audio`.
    pub(super) fn add(&mut self, mut piece: Members<'_>) -> Result<(), Garbled> {
        if let Some(id) = rest::words(&mut piece, "id").filter(|id| id.len() <= 256) {
            self.id = id.into_owned();
        }
        self.expires = rest::number(&mut piece, "expires_at").or(self.expires);
        self.transcript.push_str(&rest::text(&mut piece, "transcript").unwrap_or_default());
        let data = rest::text(&mut piece, "data").unwrap_or_default();
        STANDARD.decode_vec(&*data, &mut self.sound).map_err(|_| Garbled::new("audio that is not base64"))?;
        if self.sound.len() + self.transcript.len() > MOST {
            return Err(Garbled::new("an answer too long to be put together from its pieces"));
        }
        Ok(())
    }

    /// `None` when nothing was said.
    pub(super) fn finish(self) -> Option<Media<'static>> {
        if self.sound.is_empty() {
            return None;
        }
        let source =
            Source::Base64 { media_type: Cow::Borrowed("audio/pcm"), data: Cow::Owned(STANDARD.encode(&self.sound)) };
        let string = |text: &str| {
            let mut out = Vec::new();
            Writer::new(&mut out).string(text);
            String::from_utf8(out).unwrap_or_default()
        };
        let mut members = vec![("id", string(&self.id)), ("transcript", string(&self.transcript))];
        members.extend(self.expires.map(|time| ("expires_at", time.to_string())));
        let extra = members.into_iter().map(|(name, json)| ExtraMember {
            name: Cow::Borrowed(name),
            json: Cow::Owned(json),
            at: At::NOWHERE,
        });
        Some(message_in::media(MediaKind::Audio, source, At::NOWHERE, Extra(extra.collect())))
    }
}
