//! Reading a `multipart/form-data` body (RFC 7578), as uploads send it: text fields and one file.

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value};

/// The file of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) filename: String,
    pub(super) content: Bytes,
}

/// The boundary named in a form's `content-type`.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    let named = |parameter: &str| parameter.trim().get(..9).is_some_and(|name| name.eq_ignore_ascii_case("boundary="));
    let parameter = parameters.split(';').find(|parameter| named(parameter))?;
    let value = parameter.trim().get(9..)?.trim_matches('"');
    (kind.trim().eq_ignore_ascii_case("multipart/form-data") && !value.is_empty()).then_some(value)
}

/// The text fields as an object, and the first file. A repeated field keeps its last value. `None` for what is no form.
pub(super) fn read(body: &Bytes, boundary: &str) -> (Option<Value>, Option<Upload>) {
    let mark = format!("--{boundary}");
    let mut fields = Map::new();
    let mut upload = None;
    let mut marks = memmem::find_iter(body, mark.as_bytes());
    let Some(mut start) = marks.next() else { return (None, None) };
    for next in marks {
        // Between two marks: CRLF, headers, an empty line, the content, CRLF.
        let part = body.slice(start + mark.len()..next);
        start = next;
        let Some(at) = memmem::find(&part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..at]).into_owned();
        let content = part.slice(at + 4..part.len().saturating_sub(2).max(at + 4));
        match (parameter(&head, "name"), parameter(&head, "filename")) {
            (_, Some(filename)) if upload.is_none() => upload = Some(Upload { filename, content }),
            (Some(name), None) => {
                fields.insert(name, Value::String(String::from_utf8_lossy(&content).into_owned()));
            }
            (_, Some(_)) | (None, None) => {}
        }
    }
    (Some(Value::Object(fields)), upload)
}

/// A quoted parameter of `content-disposition`.
fn parameter(head: &str, name: &str) -> Option<String> {
    let named = |line: &&str| line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:"));
    let line = head.lines().find(named)?;
    let (_, rest) = line.split_once(&format!("; {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_gives_its_fields_and_its_file() {
        let kind = "multipart/form-data; charset=utf-8; boundary=\"xx yy\"";
        let boundary = boundary(kind).expect("a boundary is named");
        let body = "--xx yy\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xx yy\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\n\
             one\r\n\r\ntwo\r\n\r\n--xx yy--\r\n";
        let (fields, upload) = read(&Bytes::from(body), boundary);
        assert_eq!(fields, Some(serde_json::json!({ "purpose": "batch" })));
        let wanted = Upload { filename: "a.txt".to_owned(), content: Bytes::from("one\r\n\r\ntwo\r\n") };
        assert_eq!(upload, Some(wanted));
    }

    #[test]
    fn what_is_no_form_has_no_boundary() {
        for kind in ["", "application/json", "multipart/mixed; boundary=a", "multipart/form-data", "é; boundary="] {
            assert_eq!(boundary(kind), None, "{kind}");
        }
        assert_eq!(read(&Bytes::from("nothing"), "x"), (None, None));
    }
}
