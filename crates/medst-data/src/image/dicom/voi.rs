//! From stored to grey values: modality transformation, values of interest, presentation (PS3.3, C.11).
//!
//! Every step maps values one by one, so the chain is computed once for each value that occurs and looked up for each pixel.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::Window;
use super::attributes::{Format, decimal, integer, item, text};
use crate::image::scale_by_maximum;

/// The grey values of pixels with the given stored bits.
pub(super) fn apply(
    object: &InMemDicomObject,
    format: &Format,
    window: Window,
    codes: &[u16],
) -> Result<Vec<u8>, String> {
    let mut occurs = vec![false; 1 << format.stored];
    codes.iter().for_each(|&code| occurs[usize::from(code)] = true);
    let present: Vec<u16> = (0..=u16::MAX).zip(&occurs).filter(|(_, occurs)| **occurs).map(|(code, _)| code).collect();
    let values: Vec<i32> = present.iter().map(|&code| format.value(code)).collect();
    let greys = match window {
        Window::Reference => scale_by_maximum(&values, format.photometric == "MONOCHROME1"),
        Window::Declared => declared(object, format, &values)?,
    };
    let mut table = vec![0; occurs.len()];
    for (&code, grey) in present.iter().zip(greys) {
        table[usize::from(code)] = grey;
    }
    Ok(codes.iter().map(|&code| table[usize::from(code)]).collect())
}

fn declared(object: &InMemDicomObject, format: &Format, values: &[i32]) -> Result<Vec<u8>, String> {
    let inverse = format.photometric == "MONOCHROME1"
        || text(object, tags::PRESENTATION_LUT_SHAPE).is_some_and(|shape| shape.eq_ignore_ascii_case("INVERSE"));
    let modality = Modality::of(object, format)?;
    let padding = padding(object, format);
    let is_padding = |value: i32| padding.is_some_and(|(low, high)| (low..=high).contains(&value));
    let counted = values.iter().filter(|&&value| !is_padding(value)).map(|&value| modality.apply(value));
    let (low, high) = counted.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    // The values of 8-bit pictures are grey values already, unless the file says otherwise.
    let full = if format.stored == 8 && !format.signed && modality.is_identity() { (0.0, 255.0) } else { (low, high) };
    let interest = Interest::of(object, format, full)?;
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

/// The stored values that stand for "no picture here", from the lowest to the highest.
fn padding(object: &InMemDicomObject, format: &Format) -> Option<(i32, i32)> {
    // Their representation is that of the pixels, whatever the attribute's own type says.
    let value = |tag| {
        let value = integer(object, tag)? as u16;
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
    fn of(object: &InMemDicomObject, format: &Format) -> Result<Modality, String> {
        if let Some(item) = item(object, tags::MODALITY_LUT_SEQUENCE) {
            return Ok(Modality::Table(Table::of(item, format.signed)?));
        }
        let slope = decimal(object, tags::RESCALE_SLOPE).unwrap_or(1.0);
        Ok(Modality::Linear { slope, intercept: decimal(object, tags::RESCALE_INTERCEPT).unwrap_or(0.0) })
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
    Table(Table),
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
    fn of(object: &InMemDicomObject, format: &Format, (low, high): (f64, f64)) -> Result<Interest, String> {
        if let Some(item) = item(object, tags::VOILUT_SEQUENCE) {
            // Its input is stored values, possibly signed, or those of the modality, which may be negative.
            let signed = format.signed || low < 0.0;
            return Ok(Interest::Table(Table::of(item, signed)?));
        }
        let (Some(center), Some(width)) = (decimal(object, tags::WINDOW_CENTER), decimal(object, tags::WINDOW_WIDTH))
        else {
            return Ok(Interest::Full { low, high });
        };
        let function = text(object, tags::VOILUT_FUNCTION).unwrap_or_else(|| "LINEAR".into()).to_ascii_uppercase();
        // Some devices write a width of 0 to say that there is no window.
        match function.as_str() {
            "LINEAR" if width >= 1.0 => Ok(Interest::Linear { center, width }),
            "LINEAR_EXACT" if width > 0.0 => Ok(Interest::LinearExact { center, width }),
            "SIGMOID" if width > 0.0 => Ok(Interest::Sigmoid { center, width }),
            "LINEAR" | "LINEAR_EXACT" | "SIGMOID" => Ok(Interest::Full { low, high }),
            other => Err(format!("VOILUTFunction {other} is not one of LINEAR, LINEAR_EXACT, SIGMOID")),
        }
    }

    fn apply(&self, x: f64) -> f64 {
        match *self {
            Interest::Table(ref table) => table.apply(x) * 255.0 / table.most,
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
    /// The largest value that its bits can hold.
    most: f64,
}

impl Table {
    fn of(item: &InMemDicomObject, signed: bool) -> Result<Table, String> {
        let numbers =
            |tag: Tag| item.get(tag).and_then(|element| element.to_multi_int::<i64>().ok()).unwrap_or_default();
        let descriptor = numbers(tags::LUT_DESCRIPTOR);
        let &[count, first, bits] = descriptor.as_slice() else {
            return Err("damaged DICOM: a look-up table without LUTDescriptor".into());
        };
        // 0 stands for 65536, and the type of the first value may be either.
        let count = if count == 0 { 1 << 16 } else { usize::from(count as u16) };
        let first = if signed { f64::from(first as i16) } else { f64::from(first as u16) };
        let mut entries: Vec<u16> = numbers(tags::LUT_DATA).into_iter().map(|entry| entry as u16).collect();
        if bits <= 8 && entries.len() < count {
            // Two entries a word.
            entries = entries.iter().flat_map(|word| word.to_le_bytes()).map(u16::from).collect();
        }
        if entries.len() < count {
            return Err(format!(
                "damaged DICOM: a look-up table of {} entries where {count} were expected",
                entries.len()
            ));
        }
        entries.truncate(count);
        let largest = entries.iter().copied().max().map_or(0.0, f64::from);
        // Where the declared depth cannot hold the entries, it is wrong.
        let depth = f64::from((1 << bits.clamp(1, 16)) - 1);
        Ok(Table { first, entries, most: if largest > depth { 65535.0 } else { depth } })
    }

    /// The entry of a value; values outside have that of the nearer end.
    fn apply(&self, x: f64) -> f64 {
        let index = (x.round() - self.first).max(0.0) as usize;
        f64::from(self.entries[index.min(self.entries.len() - 1)])
    }
}
