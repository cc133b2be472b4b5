//! `/audio/speech`, `/audio/transcriptions`, `/audio/translations` and `/images/generations` (API reference, "Audio", "Images").
//! The sound is silence and the picture is one pixel.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::answer::{Usage, count, split};
use super::chat::event;
use super::fault::Fault;
use super::inquiry::Task;
use super::now;
use super::reply::Reply;

/// An MPEG-1 layer III frame, 128 kbit/s at 44.1 kHz: its header, then nothing, which decodes as silence.
const MP3_HEADER: [u8; 4] = [0xff, 0xfb, 0x90, 0x64];
const MP3_FRAME: usize = 417;
/// Frames in one chunk of speech: about a fifth of a second.
const FRAMES: usize = 8;
/// A grey PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";
const MOST_IMAGES: u64 = 10;

/// One chunk of sound for every word, so that it streams as long as speech would.
pub(super) fn speech(task: &Task<'_>) -> Result<Reply, Fault> {
    let input = task.text("input").ok_or_else(|| Fault::missing("input"))?;
    task.body.get("voice").filter(|voice| !voice.is_null()).ok_or_else(|| Fault::missing("voice"))?;
    let kind = match task.text("response_format") {
        None | Some("mp3") => "audio/mpeg",
        Some("opus") => "audio/ogg",
        Some("aac") => "audio/aac",
        Some("flac") => "audio/flac",
        Some("wav") => "audio/wav",
        Some("pcm") => "audio/pcm",
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'mp3', 'opus', 'aac', 'flac', 'wav', and 'pcm'."
            );
            return Err(Fault::bad(message).param("response_format").code("invalid_value"));
        }
    };
    let mut frame = vec![0; MP3_FRAME];
    if kind == "audio/mpeg" {
        frame.splice(..MP3_HEADER.len(), MP3_HEADER);
    }
    let chunk = Bytes::from(frame.repeat(FRAMES));
    let chunks = input.split_whitespace().take(2_000).count().max(1);
    let sound = task.scenario.stream(vec![chunk; chunks], Vec::new(), task.shared.options.pace);
    Ok(Reply { headers: vec![("content-type".to_owned(), kind.to_owned())], ..sound })
}

pub(super) fn transcription(task: &Task<'_>) -> Result<Reply, Fault> {
    let upload = task.upload.ok_or_else(|| Fault::missing("file"))?;
    let text = format!("This is a simulated transcript of {}: {} bytes.", upload.filename, upload.content.len());
    let seconds = (upload.content.len() / 16_000).max(1) as u64;
    let usage = Usage { input: seconds * 10, output: count(&text), ..Usage::default() };
    let usage = json!({
        "type": "tokens",
        "input_tokens": usage.input,
        "input_token_details": { "text_tokens": 0, "audio_tokens": usage.input },
        "output_tokens": usage.output,
        "total_tokens": usage.input + usage.output
    });
    if task.is_set("stream") {
        let delta = |piece: String| event(&json!({ "type": "transcript.text.delta", "delta": piece }));
        let mut frames: Vec<Bytes> = split(&text).into_iter().map(delta).collect();
        frames.push(event(&json!({ "type": "transcript.text.done", "text": text, "usage": usage })));
        let error = vec![event(&Fault::server_error().body())];
        return Ok(task.scenario.stream(frames, error, task.shared.options.pace));
    }
    match task.text("response_format") {
        None | Some("json") => Ok(task.scenario.whole(&json!({ "text": text, "usage": usage }))),
        Some("text") => Ok(Reply::whole(StatusCode::OK, "text/plain; charset=utf-8", format!("{text}\n"))),
        Some("verbose_json") => Ok(task.scenario.whole(&json!({
            "task": "transcribe",
            "language": "english",
            "duration": seconds as f64,
            "text": text,
            "segments": [],
            "usage": { "type": "duration", "seconds": seconds }
        }))),
        Some("srt") => {
            Ok(Reply::whole(StatusCode::OK, "text/plain", format!("1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n")))
        }
        Some("vtt") => {
            let subtitles = format!("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n");
            Ok(Reply::whole(StatusCode::OK, "text/plain", subtitles))
        }
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'json', 'text', 'srt', 'verbose_json', and 'vtt'."
            );
            Err(Fault::bad(message).param("response_format").code("invalid_value"))
        }
    }
}

pub(super) fn image(task: &Task<'_>) -> Result<Reply, Fault> {
    let prompt = task.text("prompt").ok_or_else(|| Fault::missing("prompt"))?;
    let number = task.number("n").unwrap_or(1).clamp(1, MOST_IMAGES);
    let picture = match task.text("response_format") {
        Some("url") => json!({ "url": format!("data:image/png;base64,{PIXEL}") }),
        Some(_) | None => json!({ "b64_json": PIXEL }),
    };
    let (input, output) = (count(prompt), 272 * number);
    let document = json!({
        "created": now(),
        "data": vec![picture; number as usize],
        "usage": {
            "input_tokens": input,
            "input_tokens_details": { "image_tokens": 0, "text_tokens": input },
            "output_tokens": output,
            "total_tokens": input + output
        }
    });
    Ok(task.scenario.whole(&document))
}
