//! Change a few spans of a text and leave every other byte as it is.

use bytes::{Bytes, BytesMut};

use super::scan::Span;

/// Up to this size a changed body is copied into one piece (one write); above it the pieces are sent as slices of the original, so
/// that a large body is never held twice.
const COPY_LIMIT: usize = 64 * 1024;

/// Replace `span` by `bytes`; an empty span inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    pub span: Span,
    pub bytes: Bytes,
}

/// A body after its patches: pieces in order, sharing memory with the original.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spliced {
    pub pieces: Vec<Bytes>,
    /// Sum of the pieces' lengths: the new `Content-Length`.
    pub len: usize,
}

// === impl Spliced ===

impl Spliced {
    /// Apply patches, which must be in order and not overlap; they come from one scan of this very body.
    pub fn new(body: &Bytes, patches: &[Patch]) -> Self {
        if patches.is_empty() {
            return Spliced { len: body.len(), pieces: vec![body.clone()] };
        }
        debug_assert!(patches.windows(2).all(|w| w[0].span.end <= w[1].span.start), "patches in order");
        let len = patches.iter().fold(body.len(), |len, p| len - p.span.len() + p.bytes.len());
        if len <= COPY_LIMIT {
            let mut whole = BytesMut::with_capacity(len);
            let mut from = 0;
            for patch in patches {
                whole.extend_from_slice(&body[from..patch.span.start]);
                whole.extend_from_slice(&patch.bytes);
                from = patch.span.end;
            }
            whole.extend_from_slice(&body[from..]);
            return Spliced { len, pieces: vec![whole.freeze()] };
        }
        let mut pieces = Vec::with_capacity(patches.len() * 2 + 1);
        let mut from = 0;
        for patch in patches {
            pieces.push(body.slice(from..patch.span.start));
            pieces.push(patch.bytes.clone());
            from = patch.span.end;
        }
        pieces.push(body.slice(from..));
        pieces.retain(|piece| !piece.is_empty());
        Spliced { pieces, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_the_patched_spans_change(
            body in prop::collection::vec(any::<u8>(), 0..400),
            large in any::<bool>(),
            cuts in prop::collection::btree_set(0usize..400, 0..8),
            fill in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut body = body;
            if large { body.resize(COPY_LIMIT + 500, b'x'); }
            let body = Bytes::from(body);
            let cuts: Vec<usize> = cuts.into_iter().filter(|c| *c <= body.len()).collect();
            let patches: Vec<Patch> = cuts.chunks_exact(2)
                .map(|c| Patch { span: c[0]..c[1], bytes: Bytes::from(fill.clone()) }).collect();
            let spliced = Spliced::new(&body, &patches);
            let mut expected = Vec::new();
            let mut from = 0;
            for p in &patches {
                expected.extend_from_slice(&body[from..p.span.start]);
                expected.extend_from_slice(&p.bytes);
                from = p.span.end;
            }
            expected.extend_from_slice(&body[from..]);
            let whole: Vec<u8> = spliced.pieces.iter().flat_map(|p| p.iter().copied()).collect();
            prop_assert_eq!(spliced.len, whole.len());
            prop_assert_eq!(whole, expected);
        }
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let body = Bytes::from(vec![b'x'; COPY_LIMIT * 4]);
        let spliced = Spliced::new(&body, &[Patch { span: 10..20, bytes: Bytes::from_static(b"new") }]);
        assert_eq!(spliced.pieces.len(), 3);
        assert_eq!(spliced.pieces[2].as_ptr(), body[20..].as_ptr());
    }
}
