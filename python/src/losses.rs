//! The losses on tensors of Python, with their gradients.
//!
//! A call computes a loss together with its gradients with respect to the inputs; `medst/losses.py`
//! wraps it in a node of torch's autograd graph, which multiplies them by the incoming gradient.
//! Python thus uses the derivatives that Rust computed.

use medst_model::loss::config::{GlobalKind, GlobalTemperature, LossConfig};
use medst_model::loss::{global, local, temporal};
use medst_model::model::config::Semantics;
use medst_model::model::importance::Importance;
use medst_model::model::input::Relations;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use tch::{Device, Kind, Tensor};

use crate::array::{Array, Lent};
use crate::errors;

/// An input, and whether its gradient is required.
type Given<'py> = (Bound<'py, PyCapsule>, bool);
/// The loss, and for each input its gradient if it was required and exists.
type Differentiated = (Array, Vec<Option<Array>>);

/// Rows of sequences, padded with -1 to equal length.
fn relations(sequences: &[Vec<i64>], device: Device) -> Relations {
    Relations::of_sequences(match sequences.len() {
        0 => Tensor::zeros([0, 2], (Kind::Int64, device)),
        count => Tensor::from_slice(&sequences.concat()).view([count as i64, -1]).to_device(device),
    })
}

/// Refuses values that no loss can have.
fn valid(py: Python<'_>, config: LossConfig) -> PyResult<LossConfig> {
    config.validate().map_err(|error| errors::exception(py, error))?;
    Ok(config)
}

/// Computes a loss of `inputs` and its gradients without the interpreter's lock, under which
/// libtorch refuses to run a backward pass.
fn differentiate(
    py: Python<'_>,
    inputs: Vec<Given<'_>>,
    loss: impl FnOnce(&[Tensor]) -> Tensor + Send,
) -> PyResult<Differentiated> {
    let wanted: Vec<bool> = inputs.iter().map(|input| input.1).collect();
    let lent: Vec<Lent> = inputs.iter().map(|input| Lent::new(&input.0)).collect::<PyResult<_>>()?;
    let leaves: Vec<Tensor> =
        lent.iter().zip(&wanted).map(|(lent, &wanted)| lent.tensor.shallow_clone().set_requires_grad(wanted)).collect();
    let computed = py.detach(move || -> Result<(Tensor, Vec<Option<Tensor>>), tch::TchError> {
        tch::with_grad(|| {
            let value = loss(&leaves);
            let sources: Vec<&Tensor> = leaves.iter().zip(&wanted).filter(|leaf| *leaf.1).map(|leaf| leaf.0).collect();
            // A loss that depends on no input, such as that of no sequences, has no autograd graph.
            let found = match value.requires_grad() && !sources.is_empty() {
                true => Tensor::f_run_backward(&[&value], &sources, false, false)?,
                false => Vec::new(),
            };
            let mut found = found.into_iter();
            let gradients =
                wanted.iter().map(|&wanted| if wanted { found.next().filter(Tensor::defined) } else { None });
            let gradients = gradients.map(|gradients| gradients.map(|gradient| gradient.contiguous())).collect();
            Ok((value.detach(), gradients))
        })
    });
    let (value, gradients) = computed.map_err(|error| errors::exception(py, error.into()))?;
    // The tensors above are views of Python's memory, which must outlive them.
    drop(lent);
    let gradients =
        gradients.into_iter().map(|gradient| gradient.map(Array::of_tensor).transpose()).collect::<PyResult<_>>()?;
    Ok((Array::of_tensor(value)?, gradients))
}

/// Global alignment of `image` and `report`, `[B, D]` unit vectors.
#[pyfunction]
pub fn global_alignment(
    py: Python<'_>,
    inputs: Vec<Given<'_>>,
    temperature: f64,
    kind: &str,
) -> PyResult<Differentiated> {
    let global = match kind {
        "softmax" => GlobalKind::Softmax,
        "sigmoid" => GlobalKind::Sigmoid,
        other => return Err(errors::input(py, format!("kind = {other}: expected softmax or sigmoid"))),
    };
    let global_temperature = GlobalTemperature::Fixed(temperature);
    let config = valid(py, LossConfig { global, global_temperature, ..LossConfig::default() })?;
    differentiate(py, inputs, move |inputs| global::global(&inputs[0], &inputs[1], &config).loss)
}

/// Share of images and reports whose partner is among the best 1 and 5.
#[pyfunction]
pub fn retrieval_accuracy(py: Python<'_>, inputs: Vec<Given<'_>>) -> PyResult<(f64, f64)> {
    let lent: Vec<Lent> = inputs.iter().map(|input| Lent::new(&input.0)).collect::<PyResult<_>>()?;
    let (image, report) = (lent[0].tensor.shallow_clone(), lent[1].tensor.shallow_clone());
    Ok(py.detach(move || {
        let found = tch::no_grad(|| global::global(&image, &report, &LossConfig::default()));
        (found.accuracy_at_1.double_value(&[]), found.accuracy_at_5.double_value(&[]))
    }))
}

/// One of the temporal losses of `image` and `report`, `[B, D]` unit vectors.
#[pyfunction]
pub fn temporal_mapping(
    py: Python<'_>,
    inputs: Vec<Given<'_>>,
    sequences: Vec<Vec<i64>>,
    temperature: f64,
    variance_weight: f64,
    reverse: bool,
) -> PyResult<Differentiated> {
    let config = LossConfig { temporal_temperature: temperature, variance_weight, ..LossConfig::default() };
    let config = valid(py, config)?;
    differentiate(py, inputs, move |inputs| {
        let relations = relations(&sequences, inputs[0].device());
        let found = temporal::temporal(&inputs[0], &inputs[1], &relations, &config);
        if reverse { found.reverse_mapping } else { found.forward_mapping }
    })
}

/// Local alignment of `words`, `frontal_patches`, `lateral_patches`, and the importance layers of
/// words and of patches (weight, bias).
#[pyfunction]
pub fn local_alignment(
    py: Python<'_>,
    inputs: Vec<Given<'_>>,
    word_exists: Bound<'_, PyCapsule>,
    lateral_rows: Vec<i64>,
    temperature: f64,
) -> PyResult<Differentiated> {
    let config = valid(py, LossConfig { local_temperature: temperature, ..LossConfig::default() })?;
    let exists = Lent::new(&word_exists)?;
    let word_exists = exists.tensor.shallow_clone();
    let found = differentiate(py, inputs, move |inputs| {
        let layer =
            |first: usize| Importance::from_tensors(inputs[first].shallow_clone(), inputs[first + 1].shallow_clone());
        let (words, patches) = (layer(3), layer(5));
        let layers =
            local::Layers { word_importance: &words, patch_importance: &patches, semantics: Semantics::Corrected };
        let tokens = local::Tokens {
            words: &inputs[0],
            word_exists: &word_exists,
            frontal_patches: &inputs[1],
            lateral_patches: &inputs[2],
            lateral_rows: &lateral_rows,
        };
        local::of_tokens(&layers, &tokens, inputs[1].size()[0], &config)
    });
    drop(exists);
    found
}
