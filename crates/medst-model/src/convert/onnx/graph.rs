//! Builds a graph: the layers of the model as operators of ONNX.
//!
//! Weights have the names that medst gives them (matrices are transposed, `[inputs, outputs]`),
//! nodes those of the layer they compute. With int8, matrices of the encoders are stored in 8 bits
//! with one scale per output, and their other factor is quantised at run time
//! (`DynamicQuantizeLinear`, `MatMulInteger`). The projections stay float32, as in medst at lower
//! precisions: they remove what the states of studies have in common, and the remaining differences
//! are small. So does the head of a fine-tuned model, which is small.
//!
//! Letters: `B` batch, `N` tokens, `H` width, `K` inputs and `M` outputs of a layer.

use std::collections::{BTreeSet, HashMap};

use tch::{Kind, Tensor};

use super::proto::{Attribute, Axis, Element, Initializer, Model, Port, node};
use crate::model::{MedSt, projection};

/// The largest weight in 8 bits. With more than 7 bits, processors without VNNI saturate sums of
/// two products, and give other results.
const LARGEST_WEIGHT: f64 = 63.0;

/// The tensors of a model by name.
pub struct Weights<'a>(HashMap<&'a str, &'a Tensor>);

impl<'a> Weights<'a> {
    pub fn new(model: &'a MedSt) -> Weights<'a> {
        let all = model.parameters().iter().chain(model.buffers());
        Weights(all.map(|entry| (entry.name.as_str(), &entry.tensor)).collect())
    }

    /// In float64, apart from the model.
    fn exact(&self, name: &str) -> Tensor {
        self.get(name).to_kind(Kind::Double)
    }

    pub fn get(&self, name: &str) -> Tensor {
        let found = self.0.get(name).unwrap_or_else(|| panic!("the model has no tensor `{name}`"));
        found.detach()
    }
}

pub struct Graph<'a> {
    pub weights: &'a Weights<'a>,
    model: Model,
    int8: bool,
    /// In front of the names of nodes, where a layer is used twice.
    prefix: &'static str,
    known: BTreeSet<String>,
}

impl<'a> Graph<'a> {
    pub fn new(name: &'static str, description: &'static str, weights: &'a Weights<'a>, int8: bool) -> Graph<'a> {
        let model = Model { name, description, ..Model::default() };
        Graph { weights, model, int8, prefix: "", known: BTreeSet::new() }
    }

    pub fn finish(self) -> Model {
        self.model
    }

    /// Names of nodes begin with this from now on.
    pub fn set_prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    pub fn input(&mut self, name: &str, element: Element, shape: &[Axis], meaning: &'static str) -> String {
        self.model.inputs.push(Port { name: name.into(), element, shape: shape.to_vec(), meaning });
        name.into()
    }

    pub fn output(&mut self, name: &str, value: &str, element: Element, shape: &[Axis], meaning: &'static str) {
        self.model.nodes.push(node("Identity", name, &[value], &[name], &[]));
        self.model.outputs.push(Port { name: name.into(), element, shape: shape.to_vec(), meaning });
    }

    /// A node with one result, which has its name.
    pub fn node(&mut self, operator: &str, name: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = format!("{}{name}", self.prefix);
        self.model.nodes.push(node(operator, &name, inputs, &[&name], attributes));
        assert!(self.known.insert(name.clone()), "two nodes are called `{name}`");
        name
    }

    /// A node with several results, which have its name and a number.
    pub fn nodes(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        results: usize,
        attributes: &[(&str, Attribute)],
    ) -> Vec<String> {
        let name = format!("{}{name}", self.prefix);
        let outputs: Vec<String> = (0..results).map(|number| format!("{name}.{number}")).collect();
        let all: Vec<&str> = outputs.iter().map(String::as_str).collect();
        self.model.nodes.push(node(operator, &name, inputs, &all, attributes));
        assert!(self.known.insert(name.clone()), "two nodes are called `{name}`");
        outputs
    }

    fn store(&mut self, name: String, element: Element, shape: &[i64], bytes: impl FnOnce() -> Vec<u8>) -> String {
        if self.known.insert(name.clone()) {
            let initializer = Initializer { name: name.clone(), element, shape: shape.to_vec(), bytes: bytes() };
            self.model.initializers.push(initializer);
        }
        name
    }

    /// A tensor under a name, once.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> String {
        self.store(name.into(), Element::Float, &tensor.size(), || {
            values::<f32>(tensor, Kind::Float).iter().flat_map(|value| value.to_le_bytes()).collect()
        })
    }

    /// A tensor of the model, unchanged.
    pub fn weight(&mut self, name: &str) -> String {
        let tensor = self.weights.get(name);
        self.tensor(name, &tensor)
    }

    pub fn ints(&mut self, values: &[i64]) -> String {
        let written: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("ints[{}]", written.join(","));
        let bytes = || values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.store(name, Element::Int64, &[values.len() as i64], bytes)
    }

    /// Without an axis.
    pub fn int(&mut self, value: i64) -> String {
        self.store(format!("int {value}"), Element::Int64, &[], || value.to_le_bytes().to_vec())
    }

    /// Without an axis.
    pub fn float(&mut self, value: f32) -> String {
        self.store(format!("float {value:?}"), Element::Float, &[], || value.to_le_bytes().to_vec())
    }

    pub fn reshape(&mut self, name: &str, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.node("Reshape", name, &[x, &shape], &[])
    }

    pub fn transpose(&mut self, name: &str, x: &str, axes: &[i64]) -> String {
        self.node("Transpose", name, &[x], &[("perm", Attribute::Ints(axes))])
    }

    pub fn unsqueeze(&mut self, name: &str, x: &str, axes: &[i64]) -> String {
        let axes = self.ints(axes);
        self.node("Unsqueeze", name, &[x, &axes], &[])
    }

    pub fn cast(&mut self, name: &str, x: &str, to: Element) -> String {
        self.node("Cast", name, &[x], &[("to", Attribute::Int(to as i64))])
    }

    /// Token `number` of `[B, N, H]`: `[B, H]`.
    pub fn token(&mut self, name: &str, x: &str, number: i64) -> String {
        let number = self.int(number);
        self.node("Gather", name, &[x, &number], &[("axis", Attribute::Int(1))])
    }

    /// Tokens `start … end` of `[B, N, H]`.
    pub fn tokens(&mut self, name: &str, x: &str, start: i64, end: i64) -> String {
        let [start, end, axis] = [start, end, 1].map(|value| self.ints(&[value]));
        self.node("Slice", name, &[x, &start, &end, &axis], &[])
    }

    /// The linear layer at `place` of the model, `[…, K]` to `[…, M]`.
    pub fn linear(&mut self, place: &str, x: &str) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| self.weights.get(&format!("{place}.{part}")));
        self.affine(place, x, &weight.tr(), &bias, self.int8)
    }

    /// Like [`Graph::linear`], in float32 whatever the encoders are in.
    pub fn exact_linear(&mut self, place: &str, x: &str) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| self.weights.get(&format!("{place}.{part}")));
        self.affine(place, x, &weight.tr(), &bias, false)
    }

    /// Like [`Graph::linear`], for a matrix `[K, M]` that is derived from the model's.
    pub fn map(&mut self, place: &str, x: &str, weight: &Tensor, bias: &Tensor) -> String {
        self.affine(place, x, weight, bias, self.int8)
    }

    fn affine(&mut self, place: &str, x: &str, weight: &Tensor, bias: &Tensor, int8: bool) -> String {
        let product = match int8 {
            true => self.quantised_product(place, x, weight),
            false => {
                let weight = self.tensor(&format!("{place}.weight"), weight);
                self.node("MatMul", &format!("{place}.product"), &[x, &weight], &[])
            }
        };
        let bias = self.tensor(&format!("{place}.bias"), bias);
        self.node("Add", place, &[&product, &bias], &[])
    }

    /// `x · weight` in integers: 8 bits for each of `x`, whose range is that of the whole tensor,
    /// and of `weight`, whose range is each output's.
    fn quantised_product(&mut self, place: &str, x: &str, weight: &Tensor) -> String {
        let (quantised, scale) = quantise(weight, 0);
        let weight = self.eight_bits(&format!("{place}.weight"), &quantised);
        let scale = self.tensor(&format!("{place}.scale"), &scale.squeeze_dim(0));
        let parts = self.nodes("DynamicQuantizeLinear", &format!("{place}.quantised"), &[x], 3, &[]);
        let sums = self.node("MatMulInteger", &format!("{place}.sums"), &[&parts[0], &weight, &parts[2]], &[]);
        let sums = self.cast(&format!("{place}.cast"), &sums, Element::Float);
        let scale = self.node("Mul", &format!("{place}.scales"), &[&parts[1], &scale], &[]);
        self.node("Mul", &format!("{place}.product"), &[&sums, &scale], &[])
    }

    fn eight_bits(&mut self, name: &str, tensor: &Tensor) -> String {
        self.store(name.into(), Element::Int8, &tensor.size(), || {
            values::<i8>(tensor, Kind::Int8).iter().map(|&value| value as u8).collect()
        })
    }

    /// Rows `ids` of the table `name`, `[V, H]`.
    pub fn rows(&mut self, place: &str, name: &str, ids: &str) -> String {
        if !self.int8 {
            let table = self.weight(name);
            return self.node("Gather", place, &[&table, ids], &[]);
        }
        let (quantised, scale) = quantise(&self.weights.get(name), 1);
        let table = self.eight_bits(name, &quantised);
        let scale = self.tensor(&format!("{name}.scale"), &scale);
        let rows = self.node("Gather", &format!("{place}.quantised"), &[&table, ids], &[]);
        let rows = self.cast(&format!("{place}.cast"), &rows, Element::Float);
        let scale = self.node("Gather", &format!("{place}.scales"), &[&scale, ids], &[]);
        self.node("Mul", place, &[&rows, &scale], &[])
    }

    pub fn layer_norm(&mut self, place: &str, x: &str, epsilon: f64) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| self.weight(&format!("{place}.{part}")));
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon as f32))];
        self.node("LayerNormalization", place, &[x, &weight, &bias], &attributes)
    }

    /// The exact GELU, `x · (1 + erf(x / √2)) / 2`.
    fn gelu(&mut self, place: &str, x: &str) -> String {
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|value| self.float(value));
        let inner = self.node("Div", &format!("{place}.gelu.div"), &[x, &root], &[]);
        let inner = self.node("Erf", &format!("{place}.gelu.erf"), &[&inner], &[]);
        let inner = self.node("Add", &format!("{place}.gelu.add"), &[&inner, &one], &[]);
        let inner = self.node("Mul", &format!("{place}.gelu.mul"), &[x, &inner], &[]);
        self.node("Mul", &format!("{place}.gelu"), &[&inner, &half], &[])
    }

    /// `contract(gelu(expand(x)))` of the layers below `place`.
    pub fn mlp(&mut self, place: &str, x: &str) -> String {
        let inner = self.linear(&format!("{place}.expand"), x);
        let inner = self.gelu(place, &inner);
        self.linear(&format!("{place}.contract"), &inner)
    }

    /// Multi-head self-attention, `[B, N, H]` to `[B, N, H]`, with the layers `qkv` and
    /// `projection` below `place`.
    ///
    /// * `keys`: `[B, 1, 1, N]` bool, true where a key exists; `None`: all do.
    pub fn attention(&mut self, place: &str, x: &str, width: i64, heads: i64, keys: Option<&str>) -> String {
        let at = |leaf: &str| format!("{place}.{leaf}");
        let stacked = self.linear(&at("qkv"), x);
        let parts = self.nodes("Split", &at("split"), &[&stacked], 3, &[("axis", Attribute::Int(-1))]);
        let axes: [&[i64]; 3] = [&[0, 2, 1, 3], &[0, 2, 3, 1], &[0, 2, 1, 3]];
        let parts: Vec<String> = (["query", "key", "value"].iter().zip(&parts).zip(axes))
            .map(|((name, part), axes)| {
                let by_head = self.reshape(&at(&format!("{name}.heads")), part, &[0, 0, heads, width / heads]);
                self.transpose(&at(name), &by_head, axes)
            })
            .collect();
        let scale = self.float((1.0 / ((width / heads) as f64).sqrt()) as f32);
        let query = self.node("Mul", &at("query.scaled"), &[&parts[0], &scale], &[]);
        let mut scores = self.node("MatMul", &at("scores"), &[&query, &parts[1]], &[]);
        if let Some(keys) = keys {
            // Finite, so that a row without any key gives numbers.
            let least = self.float(f32::MIN);
            scores = self.node("Where", &at("scores.masked"), &[keys, &scores, &least], &[]);
        }
        let weights = self.node("Softmax", &at("weights"), &[&scores], &[("axis", Attribute::Int(-1))]);
        let mixed = self.node("MatMul", &at("mixed.heads"), &[&weights, &parts[2]], &[]);
        let mixed = self.transpose(&at("mixed.tokens"), &mixed, &[0, 2, 1, 3]);
        let mixed = self.reshape(&at("mixed"), &mixed, &[0, 0, width]);
        self.linear(&at("projection"), &mixed)
    }

    /// A projection head, `[…, H]` to unit vectors `[…, D]`. Its batch normalisations are folded
    /// into the matrices in front of them.
    pub fn projection(&mut self, place: &str, x: &str) -> String {
        let of = |leaf: &str| self.weights.exact(&format!("{place}.{leaf}"));
        let hidden = of("norm.weight") / (of("norm.variance") + projection::EPSILON).sqrt();
        let output = (of("output_norm.variance") + projection::EPSILON).rsqrt();
        let expand =
            (of("expand.weight").tr() * &hidden, (of("expand.bias") - of("norm.mean")) * &hidden + of("norm.bias"));
        let contract = (of("contract.weight").tr() * &output, (of("contract.bias") - of("output_norm.mean")) * &output);
        let inner = self.affine(&format!("{place}.expand"), x, &expand.0, &expand.1, false);
        let inner = self.node("Relu", &format!("{place}.relu"), &[&inner], &[]);
        let outer = self.affine(&format!("{place}.contract"), &inner, &contract.0, &contract.1, false);
        let length = self.node("ReduceL2", &format!("{place}.length"), &[&outer], &[("axes", Attribute::Ints(&[-1]))]);
        let shortest = self.float(projection::SHORTEST as f32);
        let length = self.node("Max", &format!("{place}.length.max"), &[&length, &shortest], &[]);
        self.node("Div", place, &[&outer, &length], &[])
    }
}

/// Values in row-major order.
fn values<T: tch::kind::Element>(tensor: &Tensor, kind: Kind) -> Vec<T>
where
    Vec<T>: TryFrom<Tensor, Error = tch::TchError>,
{
    let flat = tensor.to_device(tch::Device::Cpu).to_kind(kind).contiguous().view([-1]);
    Vec::<T>::try_from(flat).expect("a flat tensor of that kind")
}

/// Whole numbers within ±[`LARGEST_WEIGHT`], and what they are multiplied with: one scale for all
/// along `axis`.
fn quantise(weight: &Tensor, axis: i64) -> (Tensor, Tensor) {
    let weight = weight.to_kind(Kind::Double);
    let scale = (weight.abs().amax([axis], true) / LARGEST_WEIGHT).clamp_min(1e-30);
    ((weight / &scale).round(), scale)
}
