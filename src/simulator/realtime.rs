//! `GET /realtime`: a WebSocket (RFC 6455) that greets with `session.created` and answers every text message with a
//! `response.done` that repeats it (API reference, "Realtime"). Binary messages come back as they are. No audio, no sessions kept.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use http::Response;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::fault::Fault;
use super::inquiry::Inquiry;
use super::record::Ticket;

/// Checks the client's side of the handshake.
pub(super) async fn handshake(head: &mut Parts) -> Result<WebSocketUpgrade, Fault> {
    let upgrade = WebSocketUpgrade::from_request_parts(head, &()).await;
    upgrade.map_err(|rejection| Fault::bad(format!("The realtime API is a WebSocket: {rejection}.")))
}

/// Answers 101 and speaks until either side closes, or the simulator is gone.
pub(super) fn accept(
    upgrade: WebSocketUpgrade,
    inquiry: &Inquiry,
    mut gone: watch::Receiver<()>,
    mut ticket: Ticket,
) -> Response<Body> {
    let model = inquiry.model.clone().unwrap_or_else(|| "gpt-realtime".to_owned());
    ticket.answered(http::StatusCode::SWITCHING_PROTOCOLS);
    upgrade.protocols(["realtime"]).on_upgrade(move |mut socket| async move {
        let spoken = tokio::select! {
            spoken = converse(&mut socket, &model) => spoken,
            // The simulator's end is the sender's: there is never a value.
            _ = gone.changed() => return drop(ticket.cut()),
        };
        if spoken.is_some() {
            ticket.complete();
        }
    })
}

/// Ends with `None` when the connection broke, with `Some` after a proper close.
async fn converse(socket: &mut WebSocket, model: &str) -> Option<()> {
    let session = json!({ "type": "realtime", "object": "realtime.session", "id": "sess_simulated", "model": model });
    let greeting = json!({ "type": "session.created", "event_id": "event_0", "session": session });
    socket.send(Message::text(greeting.to_string())).await.ok()?;
    let mut number = 0u64;
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => {
                number += 1;
                socket.send(Message::text(done(number, &text).to_string())).await.ok()?;
            }
            Message::Binary(bytes) => socket.send(Message::Binary(bytes)).await.ok()?,
            Message::Ping(_) | Message::Pong(_) => {}
            // The library answers the close; receiving once more lets it go out.
            Message::Close(_) => {
                let _ = socket.recv().await;
                return Some(());
            }
        }
    }
}

fn done(number: u64, text: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text });
    let item = json!({
        "id": format!("item_{number}"), "object": "realtime.item", "type": "message",
        "status": "completed", "role": "assistant", "content": [part]
    });
    json!({
        "type": "response.done",
        "event_id": format!("event_{number}"),
        "response": {
            "object": "realtime.response",
            "id": format!("resp_{number}"),
            "status": "completed",
            "status_details": null,
            "output": [item],
            "usage": { "total_tokens": 0, "input_tokens": 0, "output_tokens": 0 }
        }
    })
}
