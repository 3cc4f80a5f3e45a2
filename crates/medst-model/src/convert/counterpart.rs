//! Where files of another family have our tensors, and the two directions between them: [`gather`]
//! and [`Counterpart::scatter`].

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::Misfit;

/// Tensors of another family that make one of our tensors when they are stacked along their first
/// axis (and cut to `leading_rows`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    pub names: Vec<String>,
    /// Only this many leading rows are ours: the in-projection of an attention holds query, key and
    /// value rows, and the importance attentions use no values.
    pub leading_rows: Option<i64>,
    /// Written as the kernel of a 1×1 convolution, with one more axis.
    pub convolution: bool,
}

impl Counterpart {
    /// One tensor, unchanged.
    pub fn one(name: String) -> Counterpart {
        Counterpart::stacked(vec![name])
    }

    /// Several tensors, one below the other.
    pub fn stacked(names: Vec<String>) -> Counterpart {
        Counterpart { names, leading_rows: None, convolution: false }
    }

    /// The tensors of the other family for our tensor `ours`: the inverse of [`gather`]. Rows that
    /// we do not have are zero.
    pub fn scatter(&self, ours: &Tensor) -> Vec<(String, Tensor)> {
        let mut whole = ours.detach();
        if self.leading_rows.is_some() {
            // Two thirds are ours: queries and keys.
            let mut missing = whole.size();
            missing[0] /= 2;
            whole = Tensor::cat(&[&whole, &Tensor::zeros(&missing, (whole.kind(), whole.device()))], 0);
        }
        if self.convolution {
            whole = whole.unsqueeze(-1);
        }
        let parts = whole.chunk(self.names.len() as i64, 0);
        self.names.iter().cloned().zip(parts).collect()
    }
}

/// Our tensor from the tensors of its counterpart, in our shape (1×1 convolutions lose their last
/// axis).
///
/// # Errors
/// A tensor that is missing, has another shape, or holds no floating-point numbers; the message
/// names it.
pub fn gather(source: &Counterpart, tensors: &BTreeMap<String, Tensor>, shape: &[i64]) -> Result<Tensor, Misfit> {
    let whole = stack(source, tensors)?;
    if whole.size() != shape {
        let (name, found) = (&source.names[0], tensors[&source.names[0]].size());
        return Err(Misfit::Shape(format!("`{name}` has shape {found:?}, but the configuration requires {shape:?}")));
    }
    Ok(whole)
}

/// Like [`gather`], in the shape of the stacked tensors of the file.
pub fn stack(source: &Counterpart, tensors: &BTreeMap<String, Tensor>) -> Result<Tensor, Misfit> {
    let mut parts = Vec::new();
    for name in &source.names {
        let part = tensors.get(name).ok_or_else(|| Misfit::Missing(name.to_string()))?;
        if !matches!(part.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            return Err(Misfit::Values(format!(
                "`{name}` has values of type {:?}, expected floating-point numbers",
                part.kind()
            )));
        }
        parts.push(part);
    }
    if parts.windows(2).any(|pair| pair[0].size() != pair[1].size() || pair[0].kind() != pair[1].kind()) {
        let shapes: Vec<Vec<i64>> = parts.iter().map(|part| part.size()).collect();
        return Err(Misfit::Shape(format!(
            "`{}` and the tensors it is concatenated with must have equal shapes, not {shapes:?}",
            source.names[0]
        )));
    }
    let mut whole = if parts.len() == 1 { parts[0].shallow_clone() } else { Tensor::cat(&parts, 0) };
    if let Some(rows) = source.leading_rows
        && whole.size().first().is_some_and(|&first| first >= rows)
    {
        whole = whole.narrow(0, 0, rows);
    }
    if source.convolution && whole.dim() > 1 && whole.size().last() == Some(&1) {
        whole = whole.squeeze_dim(-1);
    }
    Ok(whole)
}
