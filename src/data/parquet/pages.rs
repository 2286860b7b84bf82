//! Reading columns of a Parquet file, without trusting the file.
//!
//! The `parquet` crate checks most of what it reads. Where it allocates what a page merely claims, or panics, this stands in
//! front of it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    basic::Type as Physical,
    column::reader::ColumnReaderImpl,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        reader::{ChunkReader, Length},
        serialized_reader::SerializedPageReader,
    },
};

use super::columns::{Column, Columns, Label, Labels};
use super::thrift::{self, Fault};
use crate::data::{Error, Result};

/// A Parquet file.
pub(super) struct Table {
    path: PathBuf,
    pages: Arc<Pages>,
    metadata: ParquetMetaData,
    /// Rows by row group, as many as there are labels.
    rows: Vec<usize>,
    /// The leaf of the schema with the images.
    images: usize,
}

impl Table {
    /// Reads what the file says about itself.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let disk = Disk { file: Arc::new(file), size };
        check_footer(&disk).map_err(|error| damaged(path, error))?;
        let metadata = guarded(path, || ParquetMetaDataReader::new().parse_and_finish(&disk))?;
        Ok(Self { path: path.into(), pages: Arc::new(Pages(disk)), metadata, rows: Vec::new(), images: 0 })
    }

    pub(super) fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows the file says that it has.
    pub(super) fn claimed_rows(&self) -> Option<usize> {
        usize::try_from(self.metadata.file_metadata().num_rows()).ok()
    }

    /// The columns of plain values at the top of the schema or one level below.
    pub(super) fn columns(&self) -> Vec<Column> {
        let leaves = self.metadata.file_metadata().schema_descr().columns().iter().enumerate();
        let plain = leaves.filter(|(_, leaf)| leaf.max_rep_level() == 0);
        let column = plain.filter_map(|(index, leaf)| {
            let (name, field) = match leaf.path().parts() {
                [name] => (name.clone(), None),
                [name, field] => (name.clone(), Some(field.clone())),
                _ => return None,
            };
            Some(Column { name, field, leaf: index, physical: leaf.physical_type() })
        });
        column.collect()
    }

    /// A note that the writer left in the file.
    pub(super) fn note(&self, key: &str) -> Option<String> {
        let notes = self.metadata.file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.clone()
    }

    pub(super) fn set_images(&mut self, leaf: usize) {
        self.images = leaf;
    }

    /// Rows by row group. Known once the labels were read.
    pub(super) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Bytes of the image column without compression, as far as the file can be believed.
    pub(super) fn image_bytes(&self) -> u64 {
        let groups = self.metadata.row_groups().iter();
        let sizes = groups.filter_map(|group| Some(group.columns().get(self.images)?.uncompressed_size()));
        sizes.map(|size| u64::try_from(size).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
    }

    /// Appends the labels of all rows.
    pub(super) fn read_labels(&mut self, columns: &Columns, labels: &mut Labels) -> Result<()> {
        let physical = self.metadata.file_metadata().schema_descr().column(columns.label).physical_type();
        for group in 0..self.metadata.num_row_groups() {
            let rows = self.metadata.row_group(group).num_rows();
            if !u64::try_from(rows).is_ok_and(|rows| rows <= self.pages.len()) {
                return Err(damaged(&self.path, format!("{rows} rows in {} bytes", self.pages.len())));
            }
            let rows = rows as usize;
            let leaf = columns.label;
            let (mut text_is_utf8, mut fraction) = (true, None);
            let values = match physical {
                Physical::FLOAT => {
                    self.read::<FloatType, _>(group, leaf, 0, rows, |v| whole(v.into(), &mut fraction))?
                }
                Physical::DOUBLE => self.read::<DoubleType, _>(group, leaf, 0, rows, |v| whole(v, &mut fraction))?,
                Physical::INT32 => self.read::<Int32Type, _>(group, leaf, 0, rows, |v| Label::Number(v.into()))?,
                Physical::INT64 => self.read::<Int64Type, _>(group, leaf, 0, rows, Label::Number)?,
                Physical::BOOLEAN => self.read::<BoolType, _>(group, leaf, 0, rows, |v| Label::Number(v.into()))?,
                _ => self.read::<ByteArrayType, _>(group, leaf, 0, rows, |v| match v.as_utf8() {
                    Ok(text) => Label::Text(text.into()),
                    Err(_) => {
                        text_is_utf8 = false;
                        Label::Missing
                    }
                })?,
            };
            if !text_is_utf8 {
                let what = format!("{}: column {}", self.path.display(), columns.label_name);
                return Err(Error::invalid(what, "numbers or text as labels", "other bytes"));
            }
            if let Some(fraction) = fraction {
                let what = format!("{}: column {}", self.path.display(), columns.label_name);
                let remedy = "choose another column by appending ?label=COLUMN";
                return Err(Error::unusable(what, "whole numbers or text as labels", fraction, remedy));
            }
            self.rows.push(rows);
            labels.values.extend(values.into_iter().map(|value| value.unwrap_or(Label::Missing)));
        }
        Ok(())
    }

    /// The encoded images of `count` rows from row `start` of a row group.
    pub(super) fn images(&self, group: usize, start: usize, count: usize) -> Result<Vec<Option<ByteArray>>> {
        self.read::<ByteArrayType, _>(group, self.images, start, count, |image| image)
    }

    /// `count` values of a column from row `start` of a row group; `None` where there is none.
    fn read<T: DataType, V>(
        &self,
        group: usize,
        leaf: usize,
        start: usize,
        count: usize,
        mut convert: impl FnMut(T::T) -> V,
    ) -> Result<Vec<Option<V>>> {
        const AT_ONCE: usize = 1 << 14;
        let columns = self.metadata.row_group(group).columns();
        let column = columns.get(leaf).ok_or_else(|| damaged(&self.path, "a row group without one of the columns"))?;
        let rows = usize::try_from(self.metadata.row_group(group).num_rows()).unwrap_or(0);
        guarded(&self.path, || {
            let pages = SerializedPageReader::new(Arc::clone(&self.pages), column, rows, None)?;
            let mut reader = ColumnReaderImpl::<T>::new(column.column_descr_ptr(), Box::new(pages));
            let skipped = reader.skip_records(start)?;
            let present = column.column_descr().max_def_level();
            let (mut all, mut levels, mut values) = (Vec::new(), Vec::new(), Vec::new());
            while skipped == start && all.len() < count {
                levels.clear();
                values.clear();
                let wanted = AT_ONCE.min(count - all.len());
                let (records, ..) = reader.read_records(wanted, Some(&mut levels), None, &mut values)?;
                if records == 0 {
                    break;
                }
                let mut given = values.drain(..);
                let mut next = |is_present: bool| if is_present { given.next().map(&mut convert) } else { None };
                if present == 0 {
                    all.extend((0..records).map(|_| next(true)));
                } else {
                    all.extend(levels.iter().map(|level| next(*level == present)));
                }
            }
            if all.len() == count {
                Ok(all)
            } else {
                let name = column.column_path();
                Err(ParquetError::General(format!("{} rows of {name} where {count} were announced", all.len())))
            }
        })
    }
}

/// A float as a label: whole numbers are labels, NaN stands for none, as in pandas. The first of all others is kept.
fn whole(value: f64, fraction: &mut Option<f64>) -> Label {
    if value.is_nan() {
        return Label::Missing;
    }
    // Beyond 2^53 not every whole number is a float.
    if value.fract() != 0. || value.abs() > 9_007_199_254_740_992. {
        fraction.get_or_insert(value);
    }
    Label::Number(value as i64)
}

/// Checks what a file says about itself, which stands before its last eight bytes.
fn check_footer(disk: &Disk) -> ParquetResult<()> {
    let Some(end) = disk.size.checked_sub(8) else { return Ok(()) };
    let tail = disk.get_bytes(end, 8)?;
    if !tail.ends_with(b"PAR1") {
        return Ok(());
    }
    let length = tail[..4].iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
    // A length that lies, or a file without a footer: the crate says it better.
    let Some(start) = end.checked_sub(length) else { return Ok(()) };
    thrift::check_metadata(&disk.get_bytes(start, length as usize)?)
        .map_err(|fault| ParquetError::General(fault.into()))
}

/// Runs a piece of the `parquet` crate, and turns its errors, and its panics about files that lie, into ours.
fn guarded<V>(path: &Path, read: impl FnOnce() -> ParquetResult<V>) -> Result<V> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(damaged(path, error)),
        Err(_) => Err(damaged(path, "contents that contradict themselves")),
    }
}

fn damaged(path: &Path, got: impl std::fmt::Display) -> Error {
    let remedy = "get it again, or write it anew with Snappy compression and plain or dictionary encoding";
    Error::unusable(path.display(), "a whole Parquet file", got, remedy)
}

/// A file that is read at many places at once.
struct Disk {
    file: Arc<File>,
    size: u64,
}

impl Length for Disk {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Disk {
    type T = BufReader<At>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(At { file: Arc::clone(&self.file), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            let got = format!("{length} bytes at {start} of a file of {}", self.size);
            return Err(ParquetError::EOF(got));
        }
        let mut bytes = vec![0; length];
        At { file: Arc::clone(&self.file), at: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A place in a file, independent of other places.
struct At {
    file: Arc<File>,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let n = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.at)?;
        #[cfg(windows)]
        let n = std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// The same file where it is read page by page: the head of a page is checked before anything is allocated for it.
struct Pages(Disk);

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.size
    }
}

impl ChunkReader for Pages {
    type T = Head;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(Head { inner: self.0.get_read(start)?, is_checked: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// The head of a page, checked when the first byte of it is read.
struct Head {
    inner: BufReader<At>,
    is_checked: bool,
}

impl Read for Head {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_checked {
            let bytes = self.inner.fill_buf()?;
            let checked = check_head(bytes).and_then(|()| match thrift::check_page_head(bytes) {
                // A head may be longer than what is read at once.
                Ok(()) | Err(Fault::Cut) => Ok(()),
                Err(fault) => Err(fault.into()),
            });
            checked.map_err(|got| io::Error::new(io::ErrorKind::InvalidData, got))?;
            self.is_checked = true;
        }
        // A head ends before its file does. The crate passes over bytes that are not there, as often as a list says that there are some.
        match self.inner.read(buffer)? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

/// Checks the head of a page (`PageHeader` of parquet.thrift, in Thrift's compact protocol) as far as it makes the `parquet`
/// crate allocate: the size without compression, the number of values of a dictionary, and encodings that begin with a
/// number of lengths. All writers write the fields in their order; another order is refused.
fn check_head(head: &[u8]) -> std::result::Result<(), String> {
    /// A page that compresses better than this has to be small. Snappy reaches 21.
    const RATIO: u64 = 32;
    const SMALL: u64 = 16 << 20;
    /// Thrift's field headers: the distance to the last field's number, and the type.
    const NEXT_INTEGER: u8 = 0x15;
    const DATA: [u8; 2] = [0x1c, 0x2c];
    const DICTIONARY: [u8; 2] = [0x3c, 0x4c];
    const DATA_V2: [u8; 2] = [0x4c, 0x5c];
    /// DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY.
    const LENGTHS: [i64; 2] = [6, 7];

    let mut rest = head;
    let integer = |rest: &mut &[u8]| -> std::result::Result<i64, String> {
        let wrong = || "a page without the usual head".to_string();
        if rest.split_off_first() != Some(&NEXT_INTEGER) {
            return Err(wrong());
        }
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *rest.split_off_first().ok_or_else(wrong)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(wrong())
    };
    let kind = integer(&mut rest)?;
    let full = integer(&mut rest)?;
    let packed = integer(&mut rest)?;
    let (Ok(full), Ok(packed)) = (u64::try_from(full), u64::try_from(packed)) else {
        return Err("a page of a negative size".into());
    };
    if full > SMALL && full > packed.saturating_mul(RATIO) {
        return Err(format!("a page that claims to unpack from {packed} to {full} bytes"));
    }
    let has_checksum = rest.first() == Some(&NEXT_INTEGER);
    if has_checksum {
        integer(&mut rest)?;
    }
    let fields = |of: [u8; 2]| if has_checksum { of[0] } else { of[1] };
    let start = rest.split_off_first().copied();
    match kind {
        0 if start == Some(fields(DATA)) => {
            integer(&mut rest)?;
        }
        2 if start == Some(fields(DICTIONARY)) => {
            let values = integer(&mut rest)?;
            // Each value takes four bytes at least.
            if !u64::try_from(values).is_ok_and(|values| values <= full / 4) {
                return Err(format!("a dictionary that claims {values} values in {full} bytes"));
            }
            return Ok(());
        }
        3 if start == Some(fields(DATA_V2)) => {
            for _values_nulls_rows in 0..3 {
                integer(&mut rest)?;
            }
        }
        1 => return Ok(()),
        _ => return Err("a page without the usual head".into()),
    }
    let encoding = integer(&mut rest)?;
    if LENGTHS.contains(&encoding) {
        return Err(format!("the encoding {encoding}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_head;

    fn varint(value: u64, head: &mut Vec<u8>) {
        let mut rest = value << 1;
        while rest > 0x7f {
            head.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        head.push(rest as u8);
    }

    /// A head of integers, and of field headers of structs.
    fn head(kind: u64, full: u64, packed: u64, inner: u8, integers: &[u64]) -> Vec<u8> {
        let mut head = Vec::new();
        for value in [kind, full, packed] {
            head.push(0x15);
            varint(value, &mut head);
        }
        head.push(inner);
        for value in integers {
            head.push(0x15);
            varint(*value, &mut head);
        }
        head
    }

    #[test]
    fn usual_pages_pass() {
        assert_eq!(check_head(&head(0, 100, 90, 0x2c, &[10, 0])), Ok(()));
        assert_eq!(check_head(&head(2, 100, 90, 0x4c, &[25])), Ok(()));
        assert_eq!(check_head(&head(3, 100, 90, 0x5c, &[10, 0, 10, 8])), Ok(()));
        // With a checksum, as some writers have it.
        let mut with_checksum = head(0, 100, 90, 0x15, &[]);
        with_checksum.extend([0x02, 0x1c, 0x15, 0x14, 0x15, 0x00]);
        assert_eq!(check_head(&with_checksum), Ok(()));
    }

    #[test]
    fn pages_that_claim_more_than_they_can_hold_are_refused() {
        assert!(check_head(&head(0, 2_000_000_000, 90, 0x2c, &[10, 0])).is_err_and(|e| e.contains("2000000000")));
        assert!(check_head(&head(2, 100, 90, 0x4c, &[1_000_000_000])).is_err_and(|e| e.contains("dictionary")));
        assert!(check_head(&head(0, 100, 90, 0x2c, &[10, 6])).is_err_and(|e| e.contains("encoding 6")));
        assert!(check_head(&head(3, 100, 90, 0x5c, &[10, 0, 10, 7])).is_err_and(|e| e.contains("encoding 7")));
        for broken in [&[][..], &[0x15], &[0x15, 0xff], &[0x25, 0x00], &[0x15, 0x01, 0x15, 0x01, 0x15, 0x01]] {
            assert!(check_head(broken).is_err(), "{broken:?}");
        }
    }
}
