//! Tables of positions for pictures of another size, as timm's `resample_abs_pos_embed` makes them:
//! the grid of patches is resampled with a bicubic kernel and antialiasing in float32, the entry of
//! `[CLS]` stays.

use tch::{Kind, Tensor};

use super::vit::square_side;

/// `[1, 1 + P, H]` for another number of patches, `[1, 1 + patches, H]`; `None` where either number
/// is not a square.
pub fn resample(table: &Tensor, patches: i64) -> Option<Tensor> {
    let (_, entries, width) = table.size3().ok()?;
    let (old, new) = (square_side(entries - 1)?, square_side(patches)?);
    let grid = table.narrow(1, 1, entries - 1).to_kind(Kind::Float);
    let grid = grid.reshape([1, old, old, width]).permute([0, 3, 1, 2]);
    let grid = grid.internal_upsample_bicubic2d_aa([new, new], false, None::<f64>, None::<f64>);
    let grid = grid.permute([0, 2, 3, 1]).reshape([1, patches, width]).to_kind(table.kind());
    Some(Tensor::cat(&[table.narrow(1, 0, 1), grid], 1))
}
