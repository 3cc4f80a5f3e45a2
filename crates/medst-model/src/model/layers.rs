//! Layers on the fastest matrix product available (`ops/product.cpp`) whose backward pass
//! recomputes cheap states instead of keeping them (`ops/fused.cpp`): normalised tokens and
//! activated units, 40 % of what a transformer block would keep. Results and gradients are those of
//! the plain layers.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use tch::{Kind, Tensor};

use super::parameters::{Init, Scope};
use crate::ops::{check, pointer, take};

unsafe extern "C" {
    fn medst_mlp(
        x: *const c_void,
        norm_weight: *const c_void,
        norm_bias: *const c_void,
        expand: *const c_void,
        expand_bias: *const c_void,
        contract: *const c_void,
        contract_bias: *const c_void,
        epsilon: f64,
        error: *mut *mut c_char,
    ) -> *mut c_void;

    fn medst_linear(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        error: *mut *mut c_char,
    ) -> *mut c_void;

    fn medst_int8_pack(weight: *const c_void, bias: *const c_void, results: *mut *mut c_void) -> *mut c_char;

    fn medst_attention(qkv: *const c_void, heads: i64, keys: *const c_void, error: *mut *mut c_char) -> *mut c_void;

    fn medst_attend(
        first: *const c_void,
        second: *const c_void,
        norm_weight: *const c_void,
        norm_bias: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        projection: *const c_void,
        projection_bias: *const c_void,
        keys: *const c_void,
        heads: i64,
        epsilon: f64,
        results: *mut *mut c_void,
    ) -> *mut c_char;
}

/// An affine map `x ↦ x·Wᵀ + b`, `W` of shape `[outputs, inputs]`.
#[derive(Debug)]
pub struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    pub fn new(scope: &Scope, inputs: i64, outputs: i64) -> Linear {
        Linear {
            weight: scope.parameter("weight", &[outputs, inputs], Init::TruncatedNormal),
            bias: scope.parameter("bias", &[outputs], Init::Zeros),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        linear(x, &self.weight, &self.bias)
    }

    /// Multiplies in eight bits from now on, for inference on a CPU (`ops/int8.cpp`). Only
    /// functions of this module that take a whole layer can use it then; the registry keeps the
    /// float32 weight.
    pub fn compute_in_int8(&mut self) {
        (self.weight, self.bias) = pack_int8(&self.weight, &self.bias);
    }
}

/// Layer normalisation over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub epsilon: f64,
}

impl LayerNorm {
    /// Its scale and shift are precise: they act on the sum that runs through all blocks.
    pub fn new(scope: &Scope, width: i64, epsilon: f64) -> LayerNorm {
        let scope = scope.precise();
        LayerNorm {
            weight: scope.parameter("weight", &[width], Init::Ones),
            bias: scope.parameter("bias", &[width], Init::Zeros),
            epsilon,
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.epsilon, true)
    }
}

/// `contract(gelu(expand(x)))`; with `norm` the second half of a transformer block,
/// `x + contract(gelu(expand(norm(x))))`. `x` is `[…, H]`.
///
/// # Panics
/// Shapes that do not fit, as the engine's own layers.
pub fn mlp(x: &Tensor, norm: Option<&LayerNorm>, expand: &Linear, contract: &Linear) -> Tensor {
    let of = |part: fn(&LayerNorm) -> &Tensor| norm.map_or(null(), |norm| pointer(part(norm)));
    // SAFETY: all pointers are of living tensors, or null where the function allows it.
    take(|error| unsafe {
        medst_mlp(
            pointer(x),
            of(|norm| &norm.weight),
            of(|norm| &norm.bias),
            pointer(&expand.weight),
            pointer(&expand.bias),
            pointer(&contract.weight),
            pointer(&contract.bias),
            norm.map_or(0.0, |norm| norm.epsilon),
            error,
        )
    })
}

/// `x · weightᵀ + bias`; `x` is `[…, K]`, `weight` `[N, K]`, `bias` `[N]`.
///
/// # Panics
/// Shapes that do not fit, as the engine's own layer.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    // SAFETY: all pointers are of living tensors.
    take(|error| unsafe { medst_linear(pointer(x), pointer(weight), pointer(bias), error) })
}

/// A layer's weight, `[N, K]` float32, and bias, `[N]`, in the form in which [`linear`], [`mlp`]
/// and [`Attend::forward`] multiply in eight bits: weights rounded to 255 levels per output, inputs
/// to 255 levels per token.
///
/// # Panics
/// Where libtorch was built without oneDNN.
fn pack_int8(weight: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
    let _guard = tch::no_grad_guard();
    let (weight, bias) = (weight.detach(), bias.detach());
    let mut results = [std::ptr::null_mut(); 2];
    // SAFETY: both pointers are of living tensors; it fills both results or returns an error.
    unsafe {
        check(medst_int8_pack(pointer(&weight), pointer(&bias), results.as_mut_ptr()));
        let [weight, bias] = results.map(|made| Tensor::from_ptr(made.cast()));
        (weight, bias)
    }
}

/// The first half of a transformer block: `x + projection(attention(qkv(norm(x))))`.
#[derive(Debug)]
pub struct Attend<'a> {
    pub norm: &'a LayerNorm,
    pub qkv: &'a Linear,
    pub projection: &'a Linear,
    pub heads: i64,
}

impl Attend<'_> {
    /// The states of two views' tokens after the attention (`ops/attend.cpp`). Tokens of a study
    /// attend to all of its tokens.
    ///
    /// * `first`: `[B, N, H]`.
    /// * `second`: `[L, M, H]`, of the first `L` studies; `L` may be 0.
    /// * `keys`: `[B, 1, 1, N + M]` bool, true where a key exists, only where every study has both
    ///   views; `None`: all do.
    ///
    /// # Panics
    /// Shapes that do not fit, as the engine's own layers.
    pub fn forward(&self, first: &Tensor, second: &Tensor, keys: Option<&Tensor>) -> (Tensor, Tensor) {
        let mut results = [std::ptr::null_mut(); 2];
        // SAFETY: all pointers are of living tensors, or null where the function allows it; it
        // fills both results or returns an error.
        unsafe {
            let error = medst_attend(
                pointer(first),
                pointer(second),
                pointer(&self.norm.weight),
                pointer(&self.norm.bias),
                pointer(&self.qkv.weight),
                pointer(&self.qkv.bias),
                pointer(&self.projection.weight),
                pointer(&self.projection.bias),
                keys.map_or(null(), pointer),
                self.heads,
                self.norm.epsilon,
                results.as_mut_ptr(),
            );
            check(error);
            let [first, second] = results.map(|result| Tensor::from_ptr(result.cast()));
            (first, second)
        }
    }

    /// The states `[B, H]` after the attention of the first of the tokens `x`, `[B, N, H]`; all
    /// tokens are attended to.
    ///
    /// * `keys`: `[B, 1, 1, N]` bool, true where a key exists; `None`: all do.
    ///
    /// # Panics
    /// Shapes that do not fit.
    pub fn first(&self, x: &Tensor, keys: Option<&Tensor>) -> Tensor {
        let mixed = first_attention(&self.norm.forward(x), self.qkv, self.heads, keys);
        x.select(1, 0) + self.projection.forward(&mixed)
    }
}

/// As [`attention`] of `qkv(x)`, for the first token only: `x` is `[B, N, H]`, the result `[B, H]`.
///
/// With one query, a head's score of a token is (query · `W_k`) · token (the bias of keys adds the
/// same to all tokens), and its mixed value is `W_v` of the mixed tokens: neither keys nor values
/// are computed, which would cost `N` rows of products each.
///
/// * `keys`: as in [`attention`].
///
/// # Panics
/// Shapes that do not fit.
pub fn first_attention(x: &Tensor, qkv: &Linear, heads: i64, keys: Option<&Tensor>) -> Tensor {
    let (batch, width) = (x.size()[0], x.size()[2]);
    let of_head = width / heads;
    let x = x.to_kind(qkv.weight.kind());
    let [query, key, value] = [0, 1, 2].map(|part| qkv.weight.narrow(0, part * width, width));
    let [query_bias, value_bias] = [0, 2].map(|part| qkv.bias.narrow(0, part * width, width));
    // Heads first, then studies: each head has separate matrices.
    let by_head = |x: &Tensor| x.view([batch, heads, -1]).transpose(0, 1);
    let asked = by_head(&linear(&x.select(1, 0), &query, &query_bias)).bmm(&key.view([heads, of_head, width]));
    let scores = asked.transpose(0, 1).bmm(&x.transpose(1, 2)) / (of_head as f64).sqrt();
    let scores = match keys {
        Some(keys) => scores.masked_fill(&keys.squeeze_dim(1).logical_not(), f64::NEG_INFINITY),
        None => scores,
    };
    let mixed = scores.softmax(-1, None::<Kind>).bmm(&x).transpose(0, 1);
    let values = mixed.bmm(&value.view([heads, of_head, width]).transpose(1, 2));
    values.transpose(0, 1).reshape([batch, width]) + value_bias
}

/// Multi-head self-attention on stacked queries, keys and values, `[B, N, 3H]` to `[B, N, H]`:
/// `ops/attention.cpp` where it fits the processor and the tensor, else the engine's.
///
/// * `keys`: `[B, 1, 1, N]` bool, true where a key exists.
///
/// # Panics
/// Shapes that do not fit.
pub fn attention(qkv: &Tensor, heads: i64, keys: Option<&Tensor>) -> Tensor {
    // SAFETY: the tensors live; absent keys are null.
    take(|error| unsafe { medst_attention(pointer(qkv), heads, keys.map_or(null(), pointer), error) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    const WIDTH: i64 = 6;

    struct Layers {
        norm: LayerNorm,
        expand: Linear,
        contract: Linear,
        parameters: Vec<Tensor>,
    }

    fn layers(kind: Kind) -> Layers {
        let scope = Scope::root(0.5, Some(7), kind, Device::Cpu);
        let norm = LayerNorm::new(&scope.at("norm"), WIDTH, 1e-6);
        let expand = Linear::new(&scope.at("expand"), WIDTH, 4 * WIDTH);
        let contract = Linear::new(&scope.at("contract"), 4 * WIDTH, WIDTH);
        let parameters = scope.into_registry().parameters.into_iter().map(|parameter| parameter.tensor).collect();
        let layers = Layers { norm, expand, contract, parameters };
        // Nothing may be as simple as it begins.
        tch::no_grad(|| {
            for (n, parameter) in layers.parameters.iter().enumerate() {
                let _ = parameter.shallow_clone().g_add_(&(wave(&parameter.size(), kind, n as f64) * 0.3));
            }
        });
        layers
    }

    fn wave(shape: &[i64], kind: Kind, phase: f64) -> Tensor {
        let count = shape.iter().product::<i64>();
        (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.731 + phase).sin().view(shape).to_kind(kind)
    }

    /// The result and the gradients by every input.
    fn differentiated(result: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
        let loss = (result * wave(&result.size(), result.kind(), 0.5)).sum(None::<Kind>);
        let mut all = Tensor::run_backward(&[loss], inputs, false, false);
        all.push(result.detach());
        all
    }

    fn assert_alike(ours: &Tensor, plain: &Tensor, inputs: &[&Tensor]) {
        let (ours, plain) = (differentiated(ours, inputs), differentiated(plain, inputs));
        for (number, (a, b)) in ours.iter().zip(&plain).enumerate() {
            assert!(a.allclose(b, 1e-10, 1e-12, false), "gradient {number}: {a} {b}");
        }
    }

    #[test]
    fn an_mlp_and_its_gradients_are_those_of_plain_layers() {
        let Layers { norm, expand, contract, parameters } = layers(Kind::Double);
        let x = wave(&[2, 5, WIDTH], Kind::Double, 0.0).set_requires_grad(true);
        let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&parameters).collect();
        let plain = &x + contract.forward(&expand.forward(&norm.forward(&x)).gelu("none"));
        assert_alike(&mlp(&x, Some(&norm), &expand, &contract), &plain, &inputs);
        let plain = contract.forward(&expand.forward(&x).gelu("none"));
        let without_norm: Vec<&Tensor> = std::iter::once(&x).chain(&parameters[2..]).collect();
        assert_alike(&mlp(&x, None, &expand, &contract), &plain, &without_norm);
    }

    /// The plain layers.
    fn engine_attention(qkv: &Tensor, heads: i64, keys: Option<&Tensor>) -> Tensor {
        let (batch, tokens, width) = (qkv.size()[0], qkv.size()[1], qkv.size()[2] / 3);
        let parts = qkv.view([batch, tokens, 3, heads, width / heads]).permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (parts.select(0, 0), parts.select(0, 1), parts.select(0, 2));
        Tensor::scaled_dot_product_attention(&query, &key, &value, keys, 0.0, false, None::<f64>, false)
            .transpose(1, 2)
            .reshape([batch, tokens, width])
    }

    /// Studies with both views, with one, and with either; with absent keys.
    #[test]
    fn the_first_half_of_a_block_and_its_gradients_are_those_of_plain_layers() {
        let scope = Scope::root(0.5, Some(7), Kind::Double, Device::Cpu);
        let norm = LayerNorm::new(&scope.at("norm"), WIDTH, 1e-6);
        let (qkv, projection) =
            (Linear::new(&scope.at("a"), WIDTH, 3 * WIDTH), Linear::new(&scope.at("b"), WIDTH, WIDTH));
        let parameters: Vec<Tensor> =
            scope.into_registry().parameters.into_iter().map(|parameter| parameter.tensor).collect();
        let half = Attend { norm: &norm, qkv: &qkv, projection: &projection, heads: 2 };
        let change = |x: &Tensor, keys: Option<&Tensor>| {
            projection.forward(&engine_attention(&qkv.forward(&norm.forward(x)), 2, keys))
        };
        for (studies, paired, masked) in [(3, 2, false), (2, 2, false), (3, 0, false), (2, 2, true), (1, 1, false)] {
            let first = wave(&[studies, 5, WIDTH], Kind::Double, 0.0).set_requires_grad(true);
            let second = wave(&[paired, 3, WIDTH], Kind::Double, 2.0).set_requires_grad(true);
            let keys = masked.then(|| wave(&[studies, 1, 1, 8], Kind::Double, 0.2).gt(-0.5));
            let (a, b) = half.forward(&first, &second, keys.as_ref());
            let both = Tensor::cat(&[first.narrow(0, 0, paired), second.shallow_clone()], 1);
            let both = if paired > 0 { &both + change(&both, keys.as_ref()) } else { both };
            let single = first.narrow(0, paired, studies - paired);
            let single = if paired < studies { &single + change(&single, None) } else { single };
            let plain = [Tensor::cat(&[both.narrow(1, 0, 5), single], 0), both.narrow(1, 5, 3)];
            let flat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a.reshape([-1]), b.reshape([-1])], 0);
            let mut inputs: Vec<&Tensor> = std::iter::once(&first).chain(&parameters).collect();
            if paired > 0 {
                inputs.push(&second);
            }
            assert_alike(&flat(&a, &b), &flat(&plain[0], &plain[1]), &inputs);
            tch::no_grad(|| {
                let (c, d) = half.forward(&first, &second, keys.as_ref());
                assert!(flat(&a, &b).allclose(&flat(&c, &d), 1e-12, 1e-12, false), "without a tape");
            });
        }
        // A process may have no study of a batch.
        let none = wave(&[0, 5, WIDTH], Kind::Double, 0.0).set_requires_grad(true);
        let (a, _) = half.forward(&none, &none, None);
        let inputs: Vec<&Tensor> = parameters.iter().collect();
        let gradients = differentiated(&a, &inputs);
        assert!(
            gradients.iter().zip(&inputs).all(|(gradient, of)| gradient.size() == of.size()
                && gradient.abs().sum(None::<Kind>).double_value(&[]) == 0.0)
        );
    }

    /// As near to float64's as the engine's own in float32. Blocks, tiles and lanes end within the
    /// token counts.
    #[test]
    fn attention_and_its_gradient_are_the_engines() {
        for (batch, tokens, heads) in [(2, 5, 1), (1, 16, 2), (3, 49, 2), (2, 64, 1), (2, 131, 3)] {
            let exact = (wave(&[batch, tokens, 3 * heads * 64], Kind::Double, 0.3) * 3.0).set_requires_grad(true);
            let rounded = || exact.detach().to_kind(Kind::Float).set_requires_grad(true);
            let (ours, theirs) = (rounded(), rounded());
            let expected = differentiated(&engine_attention(&exact, heads, None), &[&exact]);
            let ours = differentiated(&attention(&ours, heads, None), &[&ours]);
            let theirs = differentiated(&engine_attention(&theirs, heads, None), &[&theirs]);
            for ((exact, ours), theirs) in expected.iter().zip(&ours).zip(&theirs) {
                let off = |result: &Tensor| (result.to_kind(Kind::Double) - exact).abs().max().double_value(&[]);
                let (ours, theirs) = (off(ours), off(theirs));
                assert!(
                    ours < 2.0 * theirs + 1e-6,
                    "{batch}, {tokens}, {heads}: off by {ours:e}, the engine by {theirs:e}"
                );
            }
        }
    }

    /// Scores that differ by more than the exponential's range, and equal ones.
    #[test]
    fn attention_takes_any_scores() {
        for scale in [0.0, 1.0, 40.0] {
            let exact = wave(&[1, 70, 3 * 64], Kind::Double, 0.3) * scale;
            let ours = attention(&exact.to_kind(Kind::Float), 1, None).to_kind(Kind::Double);
            let off = (ours - engine_attention(&exact, 1, None)).abs().max().double_value(&[]);
            assert!(off < 1e-4 * (1.0 + scale), "{scale}: {off:e}");
        }
    }

    /// A token of zeros, one with an outlier, and a batch without tokens; a weight with a row of
    /// zeros.
    #[test]
    fn layers_in_int8_are_near_those_in_float32() {
        if !crate::model::multiplies_in_int8() {
            eprintln!("skipped: this processor has no VNNI");
            return;
        }
        let Layers { norm, mut expand, mut contract, .. } = layers(Kind::Float);
        let _guard = tch::no_grad_guard();
        let _ = expand.weight.get(0).zero_();
        let x = wave(&[2, 5, WIDTH], Kind::Float, 0.0);
        let _ = x.get(0).get(0).zero_();
        let _ = x.get(1).get(0).get(0).fill_(30.0);
        let exact = [expand.forward(&x), mlp(&x, Some(&norm), &expand, &contract), mlp(&x, None, &expand, &contract)];
        expand.compute_in_int8();
        contract.compute_in_int8();
        let rounded = [expand.forward(&x), mlp(&x, Some(&norm), &expand, &contract), mlp(&x, None, &expand, &contract)];
        for (exact, rounded) in exact.iter().zip(&rounded) {
            assert_eq!(exact.size(), rounded.size());
            // Per token: steps of a token do not depend on those of others.
            let off = (exact - rounded).norm_scalaropt_dim(2, [2i64], false)
                / (exact.norm_scalaropt_dim(2, [2i64], false) + 1e-6);
            let worst = off.max().double_value(&[]);
            assert!(worst > 0.0 && worst < 0.02, "{worst}");
        }
        assert_eq!(expand.forward(&x.narrow(0, 0, 0)).size(), [0, 5, 4 * WIDTH]);
    }

    /// Part of a larger tensor, as the paired studies of a batch are.
    #[test]
    fn strided_tokens_are_read_right() {
        let Layers { norm, expand, contract, .. } = layers(Kind::Double);
        let x = wave(&[2, 9, WIDTH], Kind::Double, 0.0).set_requires_grad(true);
        let part = x.narrow(1, 2, 5);
        let plain = &part + contract.forward(&expand.forward(&norm.forward(&part)).gelu("none"));
        assert_alike(&mlp(&part, Some(&norm), &expand, &contract), &plain, &[&x]);
    }

    #[test]
    #[should_panic(expected = "shape")]
    fn shapes_that_do_not_fit_are_told_by_the_engine() {
        let Layers { norm, expand, contract, .. } = layers(Kind::Double);
        let _ = mlp(&wave(&[2, WIDTH + 1], Kind::Double, 0.0), Some(&norm), &expand, &contract);
    }
}
