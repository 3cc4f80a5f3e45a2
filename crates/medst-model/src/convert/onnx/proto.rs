//! ONNX files: the few messages of `onnx.proto` that a graph needs, in protobuf's wire format.
//!
//! A message is a list of fields. A field is a number with a wire type, then a varint, four bytes,
//! or a length and that many bytes. Field numbers below are those of `onnx.proto` (ONNX IR version
//! 8). Weights are written directly from their tensors: a file of several hundred megabytes is
//! never in memory twice.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// Version of the operators' definitions: the first with `LayerNormalization`, and older than what
/// programs in use read.
pub const OPSET: i64 = 17;
/// Version of the file format that belongs to it.
const IR_VERSION: i64 = 8;
/// The length that every protobuf library refuses to exceed.
const LARGEST: usize = i32::MAX as usize;

/// A message in bytes.
#[derive(Clone, Debug, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Begins a field that consists of a length and that many bytes.
    fn begin(&mut self, field: u64, length: usize) {
        self.varint(field << 3 | 2);
        self.varint(length as u64);
    }

    pub fn int(mut self, field: u64, value: i64) -> Message {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    pub fn float(mut self, field: u64, value: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn text(mut self, field: u64, text: &str) -> Message {
        self.begin(field, text.len());
        self.0.extend(text.as_bytes());
        self
    }

    pub fn message(mut self, field: u64, message: &Message) -> Message {
        self.begin(field, message.0.len());
        self.0.extend(&message.0);
        self
    }
}

/// The element type of a tensor, with its number in `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Int64 = 7,
    Bool = 9,
}

impl Element {
    /// The name of the type in NumPy.
    pub fn name(self) -> &'static str {
        match self {
            Element::Float => "float32",
            Element::Uint8 => "uint8",
            Element::Int8 => "int8",
            Element::Int64 => "int64",
            Element::Bool => "bool",
        }
    }
}

/// A size along an axis of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    Fixed(i64),
    /// Any size, under a name: axes of the same name have the same size.
    Any(&'static str),
}

/// An input or output of a graph.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub element: Element,
    pub shape: Vec<Axis>,
    /// In words.
    pub meaning: &'static str,
}

impl Port {
    /// `ValueInfoProto`.
    fn encode(&self) -> Message {
        let axis = |axis: &Axis| match axis {
            Axis::Fixed(size) => Message::default().int(1, *size),
            Axis::Any(name) => Message::default().text(2, name),
        };
        let shape = self.shape.iter().fold(Message::default(), |shape, own| shape.message(1, &axis(own)));
        let tensor = Message::default().int(1, self.element as i64).message(2, &shape);
        let kind = Message::default().message(1, &tensor);
        Message::default().text(1, &self.name).message(2, &kind).text(3, self.meaning)
    }
}

/// A value of a node's attribute.
#[derive(Clone, Copy, Debug)]
pub enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
}

impl Attribute<'_> {
    /// `AttributeProto`.
    fn encode(self, name: &str) -> Message {
        let message = Message::default().text(1, name);
        match self {
            Attribute::Float(value) => message.float(2, value).int(20, 1),
            Attribute::Int(value) => message.int(3, value).int(20, 2),
            Attribute::Text(value) => message.text(4, value).int(20, 3),
            Attribute::Ints(values) => values.iter().fold(message, |message, &value| message.int(8, value)).int(20, 7),
        }
    }
}

/// `NodeProto`: an operator, from values to values, all by name.
pub fn node(
    operator: &str,
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[(&str, Attribute)],
) -> Message {
    let message = inputs.iter().fold(Message::default(), |message, input| message.text(1, input));
    let message =
        outputs.iter().fold(message, |message, output| message.text(2, output)).text(3, name).text(4, operator);
    attributes.iter().fold(message, |message, (name, value)| message.message(5, &value.encode(name)))
}

/// Weights and constants of a graph.
#[derive(Debug)]
pub struct Initializer {
    pub name: String,
    pub element: Element,
    pub shape: Vec<i64>,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

impl Initializer {
    /// `TensorProto`, up to where its bytes begin.
    fn head(&self) -> Message {
        let message = self.shape.iter().fold(Message::default(), |message, &size| message.int(1, size));
        let mut message = message.int(2, self.element as i64).text(8, &self.name);
        message.begin(9, self.bytes.len());
        message
    }
}

/// A graph with its description.
#[derive(Debug, Default)]
pub struct Model {
    pub name: &'static str,
    pub description: &'static str,
    /// `NodeProto`, each after those whose values it takes.
    pub nodes: Vec<Message>,
    pub initializers: Vec<Initializer>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub metadata: Vec<(String, String)>,
}

impl Model {
    /// Writes the file.
    ///
    /// # Errors
    /// A graph above 2 GiB, which is the most that a protobuf message may hold; a file that cannot
    /// be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let heads: Vec<Message> = self.initializers.iter().map(Initializer::head).collect();
        let graph = self.nodes.iter().fold(Message::default(), |graph, node| graph.message(1, node));
        let graph = graph.text(2, self.name).text(10, self.description);
        let graph = self.inputs.iter().fold(graph, |graph, port| graph.message(11, &port.encode()));
        let graph = self.outputs.iter().fold(graph, |graph, port| graph.message(12, &port.encode()));
        // Each initializer as a field of the graph, up to where its bytes begin.
        let fields: Vec<Message> = (self.initializers.iter().zip(&heads))
            .map(|(own, head)| {
                let mut field = Message::default();
                field.begin(5, head.0.len() + own.bytes.len());
                field.0.extend(&head.0);
                field
            })
            .collect();
        let weights: usize =
            self.initializers.iter().zip(&fields).map(|(own, field)| field.0.len() + own.bytes.len()).sum();
        let opset = Message::default().text(1, "").int(2, OPSET);
        let mut start = Message::default()
            .int(1, IR_VERSION)
            .text(2, "medst")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(8, &opset);
        for (key, value) in &self.metadata {
            start = start.message(14, &Message::default().text(1, key).text(2, value));
        }
        let length = graph.0.len() + weights;
        if length + start.0.len() + 16 > LARGEST {
            let gigabytes = length as f64 / f64::from(1 << 30);
            return Err(Error::Input(format!(
                "{}: the graph has {gigabytes:.1} GiB, but an ONNX file may hold at most 2 GiB; --int8 stores the weights in a \
                 quarter of that",
                path.display()
            )));
        }
        start.begin(7, length);
        let write = || -> io::Result<()> {
            let mut file = File::create(path)?;
            file.write_all(&start.0)?;
            file.write_all(&graph.0)?;
            for (own, field) in self.initializers.iter().zip(&fields) {
                file.write_all(&field.0)?;
                file.write_all(&own.bytes)?;
            }
            Ok(())
        };
        write().map_err(Error::io(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of protobuf's documentation, and what
    /// `onnx.helper.make_node(…).SerializeToString()` gives.
    #[test]
    fn messages_are_protobufs() {
        assert_eq!(Message::default().int(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").0, [0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g']);
        let minus_one = [&[0x18][..], &[0xff; 9], &[1]].concat();
        assert_eq!(Message::default().int(3, -1).0, minus_one);
        assert_eq!(Message::default().float(2, 1.0).0, [0x15, 0, 0, 0x80, 0x3f]);
        let softmax = node("Softmax", "s", &["x"], &["y"], &[("axis", Attribute::Int(-1))]);
        let attribute = [&[0x2a, 20, 0x0a, 4][..], b"axis", &minus_one, &[0xa0, 1, 2]].concat();
        let expected = [&b"\x0a\x01x\x12\x01y\x1a\x01s\x22\x07Softmax"[..], &attribute].concat();
        assert_eq!(softmax.0, expected);
    }
}
