//! DICOM's run-length coding (PS3.5, annex G): one PackBits segment for each byte of each sample,
//! highest byte first.

use crate::ImageError;

/// The planes of a frame, `count` bytes each. There must be `planes` of them.
pub(super) fn decode(frame: &[u8], planes: usize, count: usize) -> Result<Vec<Vec<u8>>, ImageError> {
    let word = |index: usize| {
        let bytes = frame.get(index * 4..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let declared = word(0).ok_or_else(|| ImageError::truncated("truncated RLE frame"))?;
    if declared != planes {
        return Err(ImageError::damaged(format!("damaged RLE frame: {declared} segments, expected {planes}")));
    }
    (1..=planes)
        .map(|index| {
            let start = word(index).ok_or_else(|| ImageError::truncated("truncated RLE frame"))?;
            let end = if index < planes {
                word(index + 1).ok_or_else(|| ImageError::truncated("truncated RLE frame"))?
            } else {
                frame.len()
            };
            unpack(
                frame
                    .get(start..end)
                    .ok_or_else(|| ImageError::damaged("damaged RLE frame: a segment is outside the frame"))?,
                count,
            )
        })
        .collect()
}

fn unpack(mut packed: &[u8], count: usize) -> Result<Vec<u8>, ImageError> {
    let short = || ImageError::truncated("truncated RLE frame: a segment ends early");
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        let (&head, rest) = packed.split_first().ok_or_else(short)?;
        packed = rest;
        match head {
            0..=127 => {
                let (literal, rest) = packed.split_at_checked(usize::from(head) + 1).ok_or_else(short)?;
                bytes.extend_from_slice(literal);
                packed = rest;
            }
            128 => {}
            129.. => {
                let (&value, rest) = packed.split_first().ok_or_else(short)?;
                bytes.resize(bytes.len() + 257 - usize::from(head), value);
                packed = rest;
            }
        }
    }
    // A last run may go past the end where the segment was made even.
    bytes.truncate(count);
    Ok(bytes)
}
