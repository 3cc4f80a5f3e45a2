//! From stored to grey values: modality transformation, values of interest, presentation (PS3.3,
//! C.11).
//!
//! Every step maps values one by one, so the chain is computed once for each value that occurs and
//! looked up for each pixel.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::Window;
use super::attributes::Format;
use super::dataset::DataSet;
use crate::{ImageError, Notes, fitting_depth, scale_by_maximum};

/// The grey values of pixels with the given stored bits.
pub(super) fn apply(
    set: &DataSet,
    format: &Format,
    window: Window,
    codes: &[u16],
    notes: &mut Notes,
) -> Result<Vec<u8>, ImageError> {
    let mut occurs = vec![false; 1 << format.stored];
    codes.iter().for_each(|&code| occurs[usize::from(code)] = true);
    let present: Vec<u16> = (0..=u16::MAX).zip(&occurs).filter(|(_, occurs)| **occurs).map(|(code, _)| code).collect();
    let values: Vec<i32> = present.iter().map(|&code| format.value(code)).collect();
    let greys = match window {
        Window::Reference => scale_by_maximum(&values, format.photometric == "MONOCHROME1"),
        Window::Declared => declared(set, format, &values, notes)?,
    };
    let mut table = vec![0; occurs.len()];
    for (&code, grey) in present.iter().zip(greys) {
        table[usize::from(code)] = grey;
    }
    Ok(codes.iter().map(|&code| table[usize::from(code)]).collect())
}

fn declared(set: &DataSet, format: &Format, values: &[i32], notes: &mut Notes) -> Result<Vec<u8>, ImageError> {
    let inverse = format.photometric == "MONOCHROME1"
        || set.text(tags::PRESENTATION_LUT_SHAPE).is_some_and(|shape| shape.eq_ignore_ascii_case("INVERSE"));
    let modality = Modality::of(set, format, notes)?;
    let padding = padding(set, format);
    let is_padding = |value: i32| padding.is_some_and(|(low, high)| (low..=high).contains(&value));
    let counted = values.iter().filter(|&&value| !is_padding(value)).map(|&value| modality.apply(value));
    let (low, high) = counted.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    // The values of 8-bit pictures are grey values already, unless the file says otherwise.
    let full = if format.stored == 8 && !format.signed && modality.is_identity() { (0.0, 255.0) } else { (low, high) };
    let interest = Interest::of(set, format, full, notes)?;
    let grey = |value: i32| {
        if is_padding(value) {
            return 0;
        }
        // `as` saturates.
        let grey = interest.apply(modality.apply(value)).round() as u8;
        if inverse { 255 - grey } else { grey }
    };
    Ok(values.iter().map(|&value| grey(value)).collect())
}

/// The stored values that mean "no picture here", from the lowest to the highest.
fn padding(set: &DataSet, format: &Format) -> Option<(i32, i32)> {
    // They have the representation of the pixels, regardless of the attribute's own type.
    let value = |tag| {
        let value = set.integer(tag)? as u16;
        Some(if format.signed { i32::from(value as i16) } else { i32::from(value) })
    };
    let first = value(tags::PIXEL_PADDING_VALUE)?;
    let last = value(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(first);
    Some((first.min(last), first.max(last)))
}

/// From stored values to those of the modality.
enum Modality {
    Linear { slope: f64, intercept: f64 },
    Table(Table),
}

impl Modality {
    fn of(set: &DataSet, format: &Format, notes: &mut Notes) -> Result<Modality, ImageError> {
        match Table::first_sound(set, tags::MODALITY_LUT_SEQUENCE, format.signed, notes) {
            Some(Ok(table)) => return Ok(Modality::Table(table)),
            Some(Err(_)) if set.has(tags::RESCALE_SLOPE) => {
                notes.add("DICOM: invalid modality look-up table; the rescale was applied instead");
            }
            Some(Err(reason)) => return Err(reason),
            None => {}
        }
        let mut number = |tag, default| match set.decimal(tag) {
            None if set.has(tag) => {
                notes.add("DICOM: the rescale is not a number; ignored");
                default
            }
            value => value.unwrap_or(default),
        };
        let (slope, intercept) = (number(tags::RESCALE_SLOPE, 1.0), number(tags::RESCALE_INTERCEPT, 0.0));
        if slope == 0.0 {
            // It would map every pixel to the same value.
            notes.add("DICOM: RescaleSlope is 0; 1 was used instead");
            return Ok(Modality::Linear { slope: 1.0, intercept });
        }
        Ok(Modality::Linear { slope, intercept })
    }

    fn is_identity(&self) -> bool {
        matches!(self, Modality::Linear { slope: 1.0, intercept: 0.0 })
    }

    fn apply(&self, value: i32) -> f64 {
        match self {
            Modality::Linear { slope, intercept } => f64::from(value) * slope + intercept,
            Modality::Table(table) => table.apply(f64::from(value)),
        }
    }
}

/// From values of the modality to 0…255.
enum Interest {
    Table {
        table: Table,
        white: f64,
    },
    /// PS3.3, C.11.2.1.2.1.
    Linear {
        center: f64,
        width: f64,
    },
    /// PS3.3, C.11.2.1.3.2.
    LinearExact {
        center: f64,
        width: f64,
    },
    /// PS3.3, C.11.2.1.3.1.
    Sigmoid {
        center: f64,
        width: f64,
    },
    Full {
        low: f64,
        high: f64,
    },
}

impl Interest {
    fn of(set: &DataSet, format: &Format, (low, high): (f64, f64), notes: &mut Notes) -> Result<Interest, ImageError> {
        // The input of a table is stored values, possibly signed, or those of the modality, which
        // may be negative.
        let signed = format.signed || low < 0.0;
        let table = Table::first_sound(set, tags::VOILUT_SEQUENCE, signed, notes);
        if let Some(Ok(table)) = table {
            let white = table.white(notes);
            return Ok(Interest::Table { table, white });
        }
        let window = Interest::window(set, notes)?;
        match (table, window) {
            (Some(Err(_)), Some(window)) => {
                notes.add("DICOM: invalid VOI look-up table; the window was applied instead");
                Ok(window)
            }
            (Some(Err(reason)), None) => Err(reason),
            (_, window) => Ok(window.unwrap_or(Interest::Full { low, high })),
        }
    }

    /// The first sound one of the windows that a file declares; centers and widths belong together
    /// by their position.
    fn window(set: &DataSet, notes: &mut Notes) -> Result<Option<Interest>, ImageError> {
        let function = set.text(tags::VOILUT_FUNCTION).unwrap_or_else(|| "LINEAR".into()).to_ascii_uppercase();
        let window = |center: f64, width: f64| match function.as_str() {
            "LINEAR" if width >= 1.0 => Some(Interest::Linear { center, width }),
            "LINEAR_EXACT" if width > 0.0 => Some(Interest::LinearExact { center, width }),
            "SIGMOID" if width > 0.0 => Some(Interest::Sigmoid { center, width }),
            _ => None,
        };
        let (centers, widths) = (set.numbers(tags::WINDOW_CENTER), set.numbers(tags::WINDOW_WIDTH));
        let is_declared = set.has(tags::WINDOW_CENTER) || set.has(tags::WINDOW_WIDTH);
        if is_declared && !matches!(function.as_str(), "LINEAR" | "LINEAR_EXACT" | "SIGMOID") {
            let message = format!("VOILUTFunction {function} is not one of LINEAR, LINEAR_EXACT, SIGMOID");
            return Err(ImageError::unsupported(message));
        }
        let mut pairs = centers.iter().zip(&widths).enumerate();
        let sound = pairs.find_map(|(index, (center, width))| Some((index, window((*center)?, (*width)?)?)));
        if let Some((index, window)) = sound {
            if index > 0 {
                notes.add("DICOM: the first window is invalid; the first valid one was applied");
            }
            return Ok(Some(window));
        }
        // Empty values may have moved the sound ones apart.
        let apart = || {
            let center = centers.iter().flatten().next()?;
            widths.iter().flatten().find_map(|width| window(*center, *width))
        };
        let window = apart();
        if window.is_some() {
            notes.add("DICOM: window centers and widths differ in number; the first valid pair was applied");
        } else if is_declared && !widths.contains(&Some(0.0)) {
            // Some devices write a width of 0 instead of a valid window.
            notes.add("DICOM: no valid window; the full range was used");
        }
        Ok(window)
    }

    fn apply(&self, x: f64) -> f64 {
        match *self {
            Interest::Table { ref table, white } => table.apply(x) * 255.0 / white,
            Interest::Linear { center, width } if width > 1.0 => {
                ((x - (center - 0.5)) / (width - 1.0) + 0.5).clamp(0.0, 1.0) * 255.0
            }
            Interest::Linear { center, .. } => f64::from(u8::from(x > center - 0.5)) * 255.0,
            Interest::LinearExact { center, width } => ((x - center) / width + 0.5).clamp(0.0, 1.0) * 255.0,
            Interest::Sigmoid { center, width } => 255.0 / (1.0 + (-4.0 * (x - center) / width).exp()),
            Interest::Full { low, high } => (x - low) * 255.0 / (high - low).max(f64::MIN_POSITIVE),
        }
    }
}

/// A look-up table (PS3.3, C.11.1.1).
struct Table {
    first: f64,
    entries: Vec<u16>,
    /// The depth that it declares for its entries.
    bits: u32,
}

impl Table {
    /// The first sound table of a sequence, or what is wrong with its first one; `None` without
    /// items.
    fn first_sound(set: &DataSet, tag: Tag, signed: bool, notes: &mut Notes) -> Option<Result<Table, ImageError>> {
        let mut first = None;
        for item in set.items(tag) {
            match Table::of(&item, signed) {
                Ok(table) => {
                    if first.is_some() {
                        notes.add("DICOM: the first look-up table is invalid; the first valid one was applied");
                    }
                    return Some(Ok(table));
                }
                failure => first = first.or(Some(failure)),
            }
        }
        first
    }

    fn of(item: &DataSet, signed: bool) -> Result<Table, ImageError> {
        let descriptor = item.numbers(tags::LUT_DESCRIPTOR);
        let &[Some(count), Some(first), Some(bits)] = descriptor.as_slice() else {
            return Err(ImageError::damaged("damaged DICOM: a look-up table without LUTDescriptor"));
        };
        // 0 means 65536, and the type of the first value may be either.
        let count = if count == 0.0 { 1 << 16 } else { usize::from(count as i64 as u16) };
        let first = if signed { f64::from(first as i64 as i16) } else { f64::from(first as i64 as u16) };
        let data = item.get(tags::LUT_DATA).filter(|data| !data.undefined);
        let is_text = data.is_some_and(|data| !matches!(data.vr, VR::US | VR::SS | VR::OW | VR::OB | VR::UN));
        let bytes = data.map(|data| data.value).filter(|_| !is_text).unwrap_or_default();
        let mut entries: Vec<u16> = match data {
            Some(data) if bytes.len() >= 2 * count => {
                (0..count).filter_map(|entry| data.encoding.number16(bytes, 2 * entry)).collect()
            }
            // Entries of one byte; in words of big-endian files the second comes first.
            Some(data) if bytes.len() >= count => {
                let swap = usize::from(data.encoding.big_endian && data.vr != VR::OB);
                (0..count).filter_map(|entry| bytes.get(entry ^ swap)).map(|&byte| u16::from(byte)).collect()
            }
            _ => {
                let found = bytes.len() / 2;
                return Err(ImageError::damaged(format!(
                    "damaged DICOM: a look-up table has {found} entries, expected {count}"
                )));
            }
        };
        entries.truncate(count);
        Ok(Table { first, entries, bits: bits as u32 })
    }

    /// The value that is white. A table of values of interest reaches it, so where the entries do
    /// not fit the declared depth or stay in its lower quarter, it is not theirs.
    fn white(&self, notes: &mut Notes) -> f64 {
        let largest = self.entries.iter().copied().max().unwrap_or(0);
        let fitting = fitting_depth(largest);
        let holds = (1..=16).contains(&self.bits) && u32::from(largest) < 1 << self.bits;
        let depth = if holds && (fitting + 2 > self.bits || largest == 0) {
            self.bits
        } else {
            notes.add("DICOM: a VOI look-up table declares the wrong depth; scaled by the depth of its entries");
            fitting
        };
        f64::from((1u32 << depth) - 1)
    }

    /// The entry of a value; values outside have that of the nearer end.
    fn apply(&self, x: f64) -> f64 {
        let index = (x.round_ties_even() - self.first).max(0.0) as usize;
        f64::from(self.entries[index.min(self.entries.len() - 1)])
    }
}
