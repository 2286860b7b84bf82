//! Thrift's compact protocol, as far as to know that what a Parquet file says about itself is neither larger nor deeper than the file:
//! the `parquet` crate allocates a group's children by the number that it claims, calls itself for every level, and counts
//! to the end of lists whose elements take no bytes.
//!
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// Structs and lists in each other; Parquet's own have less than half of it.
const MAX_DEPTH: usize = 24;
/// Groups in each other in a schema.
const MAX_LEVELS: usize = 64;

const STOP: u8 = 0;
const INTEGER: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end before what they say.
    Cut,
    /// This.
    Of(String),
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Cut => "metadata that end too early".into(),
            Fault::Of(what) => what,
        }
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// Checks the metadata of a file (`FileMetaData` of parquet.thrift).
pub(super) fn check_metadata(bytes: &[u8]) -> Result<()> {
    const SCHEMA: i64 = 2;
    let mut reader = Reader { rest: bytes };
    let mut id = 0;
    while let Some(kind) = reader.field(&mut id)? {
        if id == SCHEMA && kind == LIST { reader.schema()? } else { reader.skip(kind, MAX_DEPTH)? }
    }
    Ok(())
}

/// Checks the head of a page, of which these are the first bytes.
pub(super) fn check_page_head(bytes: &[u8]) -> Result<()> {
    Reader { rest: bytes }.skip(STRUCT, MAX_DEPTH)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8> {
        self.rest.split_off_first().copied().ok_or(Fault::Cut)
    }

    fn pass(&mut self, count: u64) -> Result<()> {
        let passed = usize::try_from(count).ok().and_then(|count| self.rest.get(count..));
        self.rest = passed.ok_or(Fault::Cut)?;
        Ok(())
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Of("a number without an end".into()))
    }

    fn signed(&mut self) -> Result<i64> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The type of a struct's next field, whose number is counted on from `id`; none where the struct ends.
    fn field(&mut self, id: &mut i64) -> Result<Option<u8>> {
        let head = self.byte()?;
        match (head >> 4, head & 0x0f) {
            (_, STOP) => return Ok(None),
            (0, _) => *id = self.signed()?,
            (step, _) => *id += i64::from(step),
        }
        Ok(Some(head & 0x0f))
    }

    /// The length of a list and the type of its elements, each of which takes a byte at least.
    fn list(&mut self) -> Result<(usize, u8)> {
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.number()?,
            length => length.into(),
        };
        match (usize::try_from(length), head & 0x0f) {
            (Ok(0), kind) => Ok((0, kind)),
            (_, 0..=2) => Err(Fault::Of("a list of truths".into())),
            (Ok(length), kind) if length <= self.rest.len() => Ok((length, kind)),
            _ => Err(Fault::Of(format!("a list that claims {length} elements in {} bytes", self.rest.len()))),
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth == 0 {
            return Err(Fault::Of(format!("more than {MAX_DEPTH} levels of metadata")));
        }
        match kind {
            // True and false are in the type of a field.
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.number()?),
            7 => self.pass(8)?,
            8 => {
                let length = self.number()?;
                self.pass(length)?;
            }
            LIST | 10 => {
                let (length, kind) = self.list()?;
                (0..length).try_for_each(|_| self.skip(kind, depth - 1))?;
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth - 1)?;
                }
            }
            // Nothing in Parquet is a map.
            other => return Err(Fault::Of(format!("metadata of type {other}"))),
        }
        Ok(())
    }

    /// The list of a schema's elements: groups stand before their children, and say how many these are.
    fn schema(&mut self) -> Result<()> {
        const CHILDREN: i64 = 5;
        let (length, kind) = self.list()?;
        if kind != STRUCT {
            return Err(Fault::Of(format!("a schema of type {kind}")));
        }
        // How many children are missing, of every group that is not whole yet.
        let mut open: Vec<u64> = Vec::new();
        for left in (0..length as u64).rev() {
            let (mut id, mut children) = (0, 0);
            while let Some(kind) = self.field(&mut id)? {
                if id == CHILDREN && kind == INTEGER {
                    children = u64::try_from(self.signed()?).unwrap_or(0);
                } else {
                    self.skip(kind, MAX_DEPTH)?;
                }
            }
            if children > left {
                return Err(Fault::Of(format!("a group that claims {children} of {left} columns")));
            }
            if let Some(missing) = open.last_mut() {
                *missing -= 1;
            }
            open.push(children);
            while open.last() == Some(&0) {
                open.pop();
            }
            if open.len() > MAX_LEVELS {
                return Err(Fault::Of(format!("more than {MAX_LEVELS} groups of columns in each other")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The metadata of a file with these numbers of children.
    fn metadata(children: &[u8]) -> Vec<u8> {
        let element = |count: &u8| match count {
            0 => vec![0x48, 1, b'a', 0],
            count => vec![0x48, 1, b'a', 0x15, 2 * count, 0],
        };
        let mut bytes = vec![0x15, 2, 0x19, 0xfc, children.len() as u8];
        bytes.extend(children.iter().flat_map(element));
        bytes.push(0);
        bytes
    }

    fn fault(bytes: &[u8]) -> String {
        String::from(check_metadata(bytes).expect_err("a fault"))
    }

    #[test]
    fn what_is_no_larger_than_the_file_passes() {
        assert_eq!(check_metadata(&metadata(&[2, 0, 1, 0])), Ok(()));
        // A list of numbers, of texts in a struct, and a number that is written in full.
        assert_eq!(check_metadata(&[0x39, 0x25, 1, 2, 0x1c, 0x19, 0x18, 1, b'x', 0, 0x08, 0x0a, 1, b'y', 0]), Ok(()));
    }

    #[test]
    fn what_claims_more_is_refused() {
        assert!(fault(&metadata(&[9, 0])).contains("claims 9 of 1 columns"));
        assert!(fault(&metadata(&[1; 80])).contains("64 groups"));
        assert!(fault(&[0x39, 0xf5, 0xff, 0xff, 0x03, 0]).contains("claims 65535 elements"));
        assert!(fault(&[0x39, 0xf1, 0xff, 0xff, 0x03, 0]).contains("truths"));
        assert!(fault(&[0x1c; 100]).contains("levels"));
        assert!(fault(&metadata(&[2, 0, 1, 0])[..9]).contains("too early"));
    }
}
