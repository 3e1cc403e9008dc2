//! Server-sent events, taken apart as they arrive. Pure, and bounded: what is longer than any event of a gateway is refused.

/// The longest line: an event with the longest error there can be.
const MAX_LINE_BYTES: usize = 1_000_000;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// What to go on from after it; none: the one before still holds.
    pub(crate) id: Option<String>,
    /// What it says; empty: no more than an id.
    pub(crate) data: String,
}

/// Not a stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_LINE_BYTES} bytes")]
pub(crate) struct TooLong;

/// Takes events apart.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    id: Option<String>,
    data: String,
}

impl Decoder {
    /// The next event in `input`, which is advanced; none: everything is taken, more must arrive.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Told>, TooLong> {
        while let Some(at) = input.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = input.split_at(at);
            self.line.extend_from_slice(line);
            *input = rest.get(1..).unwrap_or_default();
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            if let Some(told) = self.take(line.trim_end_matches('\r')) {
                return Ok(Some(told));
            }
        }
        self.line.extend_from_slice(input);
        *input = &[];
        if self.line.len() + self.data.len() > MAX_LINE_BYTES { Err(TooLong) } else { Ok(None) }
    }

    fn take(&mut self, line: &str) -> Option<Told> {
        if line.is_empty() {
            let (id, data) = (self.id.take(), std::mem::take(&mut self.data));
            return (id.is_some() || !data.is_empty()).then_some(Told { id, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment that shows that it lives, or what a later version says.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Told>, TooLong> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for mut chunk in chunks.iter().copied() {
            while let Some(told) = decoder.next(&mut chunk)? {
                all.push(told);
            }
            assert!(chunk.is_empty(), "everything is taken");
        }
        Ok(all)
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let bytes =
            b"id: s-1-2\ndata: {\"a\":1}\n\n:\n\ndata:x\r\ndata: y\nretry: 5\n\nid: s-1-3\n\n".as_slice();
        let told = |id: Option<&str>, data: &str| Told { id: id.map(str::to_owned), data: data.to_owned() };
        let whole = vec![told(Some("s-1-2"), "{\"a\":1}"), told(None, "x\ny"), told(Some("s-1-3"), "")];
        for size in 1..=bytes.len() {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(decode(&chunks).unwrap(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        assert_eq!(decode(&[&vec![b'x'; MAX_LINE_BYTES + 1]]), Err(TooLong));
    }
}
