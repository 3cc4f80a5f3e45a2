//! The image encoder: a vision transformer with a Mixture of View Experts (paper, section 3.2).
//!
//! Upstream: ViT-B/16 as in timm (pre-norm blocks, LayerNorm ε = 1e-6 unless configured, exact
//! GELU, bias on q, k and v). One patch embedding and one table of positions serve both views; the
//! lateral view has no `[CLS]` and uses positions `1…P`.
//!
//! How this differs from the reference: the reference runs `[CLS]`, frontal and lateral patches as
//! one sequence of `1 + 2P` tokens for every study and masks the keys of an absent lateral view.
//! Here the two views are two streams that meet only in attention, so a lateral view that does not
//! exist costs nothing. `Semantics::Reference` feeds both streams for every study and passes the
//! key mask.
//!
//! Letters: `B` studies, `L` of them with a lateral view, `P` patches a view, `H` width, `S` side
//! in pixels.

use tch::{Kind, Tensor};

use super::config::ImageConfig;
use super::input::ImageInput;
use super::layers::{Attend, LayerNorm, Linear};
use super::parameters::{Init, Scope, at_least_float};
use super::stage::{self, Stage};
use super::stem::Stem;
use super::view_experts::{View, ViewExperts};
use crate::Result;
use crate::device::send_rows;

/// Vision transformer with view experts.
#[derive(Debug)]
pub struct ImageEncoder {
    stem: Stem,
    class_token: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// What the encoder gives for `B` studies.
#[derive(Debug)]
pub struct ImageFeatures {
    /// `[B, H]`: the `[CLS]` state.
    pub image: Tensor,
    /// `[B, P, H]`: states of the frontal patches.
    pub frontal_patches: Tensor,
    /// `[L, P, H]`: states of the lateral patches.
    pub lateral_patches: Tensor,
    /// For each of the `L` the row of its study, strictly ascending. With reference semantics every
    /// study.
    pub lateral_rows: Vec<i64>,
}

impl ImageFeatures {
    /// From what the last of [`ImageEncoder::stages`] gives.
    pub fn from_states(states: Vec<Tensor>, lateral_rows: Vec<i64>) -> ImageFeatures {
        let [image, frontal_patches, lateral_patches] =
            <[Tensor; 3]>::try_from(states).expect("the last stage gives three states");
        ImageFeatures { image, frontal_patches, lateral_patches, lateral_rows }
    }
}

impl ImageEncoder {
    /// * `of_lateral`: the expert that lateral tokens go through.
    pub fn new(scope: &Scope, config: &ImageConfig, of_lateral: View) -> ImageEncoder {
        let ImageConfig { hidden_size, num_layers, .. } = *config;
        ImageEncoder {
            class_token: scope.precise().parameter("class_token", &[1, 1, hidden_size], Init::TruncatedNormal),
            // Tokens are precise from here on, what blocks add to them need not be.
            positions: scope.precise().parameter(
                "positions",
                &[1, 1 + config.patches(), hidden_size],
                Init::TruncatedNormal,
            ),
            stem: Stem::new(scope, config),
            blocks: (0..num_layers)
                .map(|n| Block::new(&scope.at(format_args!("blocks.{n}")), config, of_lateral))
                .collect(),
            norm: LayerNorm::new(&scope.at("norm"), hidden_size, config.epsilon),
        }
    }

    /// As [`Linear::compute_in_int8`], of all blocks.
    pub fn compute_in_int8(&mut self) {
        let last = self.blocks.len().saturating_sub(1);
        for (number, block) in self.blocks.iter_mut().enumerate() {
            // The last block's query of `[CLS]` alone needs parts of this weight.
            if number < last {
                block.qkv.compute_in_int8();
            }
            block.projection.compute_in_int8();
            block.experts.compute_in_int8();
        }
    }

    /// The encoder as a chain of stages, from nothing to the states of [`ImageFeatures`]:
    /// embedding, blocks, final norm.
    ///
    /// * `all_views`: as in the reference, every study has both views, and absent ones are masked.
    pub fn stages<'a>(&'a self, input: ImageInput, all_views: bool) -> Vec<Stage<'a>> {
        self.chain(self.entry(input, all_views), Wanted::Features)
    }

    /// [`ImageFeatures::image`] alone, `[B, H]`: what the last block makes of other tokens is not
    /// computed.
    ///
    /// * `all_views`: as in [`ImageEncoder::stages`].
    pub fn class_states(&self, input: ImageInput, all_views: bool) -> Tensor {
        stage::run(&self.chain(self.entry(input, all_views), Wanted::ClassState)).remove(0)
    }

    /// Encodes single images `[B, S, S]` (uint8), all of one view, through that view's expert.
    ///
    /// Returns `([B, H]` image features, `[B, P, H]` patch features`)`.
    pub fn forward_single(&self, pixels: &Tensor, view: View) -> (Tensor, Tensor) {
        let states = stage::run(&self.chain(self.entry_of_single(pixels, view), Wanted::Features));
        let ImageFeatures { image, frontal_patches, .. } = ImageFeatures::from_states(states, Vec::new());
        (image, frontal_patches)
    }

    /// The image features of [`ImageEncoder::forward_single`] alone; as
    /// [`ImageEncoder::class_states`].
    pub fn class_states_single(&self, pixels: &Tensor, view: View) -> Tensor {
        stage::run(&self.chain(self.entry_of_single(pixels, view), Wanted::ClassState)).remove(0)
    }

    /// The one loop over the blocks, as a chain of stages that pass each other [`Tokens`]; the last
    /// stage gives what is wanted.
    fn chain<'a>(&'a self, entry: Entry<'a>, wanted: Wanted) -> Vec<Stage<'a>> {
        let Entry { embed, keys, back, view } = entry;
        let whole = match wanted {
            Wanted::Features => self.blocks.len(),
            Wanted::ClassState => self.blocks.len().saturating_sub(1),
        };
        let mut stages = vec![embed];
        for block in &self.blocks[..whole] {
            let keys = keys.as_ref().map(Tensor::shallow_clone);
            stages.push(Box::new(move |states| {
                block.forward(&Tokens::from_states(states), keys.as_ref(), view).into_states()
            }));
        }
        stages.push(match wanted {
            Wanted::Features => Box::new(move |states| {
                let Tokens { frontal, lateral } = Tokens::from_states(states).map(|tokens| self.norm.forward(tokens));
                let frontal = in_order(frontal, back.as_deref());
                vec![frontal.select(1, 0), frontal.narrow(1, 1, frontal.size()[1] - 1), lateral]
            }),
            Wanted::ClassState => Box::new(move |states| {
                let tokens = Tokens::from_states(states);
                let state = match self.blocks.last() {
                    Some(last) => last.class_state(&tokens, keys.as_ref(), view),
                    None => tokens.frontal.select(1, 0),
                };
                vec![in_order(self.norm.forward(&state), back.as_deref())]
            }),
        });
        stages
    }

    /// What comes before the blocks.
    fn entry(&self, input: ImageInput, all_views: bool) -> Entry<'_> {
        if all_views { self.entry_of_all_views(input) } else { self.entry_of_views(input) }
    }

    /// Studies are reordered so that those with a lateral view come first, and back at the end:
    /// attention then works on contiguous slices and no token is computed for a view that is not
    /// there.
    fn entry_of_views(&self, input: ImageInput) -> Entry<'_> {
        let order = lateral_first(input.studies(), &input.lateral_rows);
        let reorder = !order.iter().enumerate().all(|(place, &row)| place as i64 == row);
        let back = reorder.then(|| inverse(&order));
        let embed = move |_: &[Tensor]| {
            let pixels = in_order(input.frontal.shallow_clone(), reorder.then_some(order.as_slice()));
            let frontal = self.with_class_token(&self.stem.forward(&self.normalise(&pixels)));
            let lateral = self.stem.forward(&self.normalise(&input.lateral)) + self.patch_positions();
            Tokens { frontal, lateral }.into_states()
        };
        Entry { embed: Box::new(embed), keys: None, back, view: View::Frontal }
    }

    /// The reference's way: an absent lateral view is a picture of zeros (after normalisation)
    /// whose keys are masked, and its patches go through everything else.
    fn entry_of_all_views(&self, input: ImageInput) -> Entry<'_> {
        let (studies, device) = (input.studies(), input.frontal.device());
        let rows = send_rows(&input.lateral_rows, device);
        let patches = self.positions.size()[1] - 1;
        let has_lateral = Tensor::zeros([studies], (Kind::Bool, device)).index_fill(0, &rows, 1);
        let keys = Tensor::cat(
            &[
                Tensor::ones([studies, 1 + patches], (Kind::Bool, device)),
                has_lateral.unsqueeze(1).expand([studies, patches], false),
            ],
            1,
        );
        let embed = move |_: &[Tensor]| {
            let frontal = self.normalise(&input.frontal);
            let lateral = frontal.zeros_like().index_copy(0, &rows, &self.normalise(&input.lateral));
            let frontal = self.with_class_token(&self.stem.forward(&frontal));
            Tokens { frontal, lateral: self.stem.forward(&lateral) + self.patch_positions() }.into_states()
        };
        let keys = Some(keys.view([studies, 1, 1, 1 + 2 * patches]));
        Entry { embed: Box::new(embed), keys, back: None, view: View::Frontal }
    }

    /// Images of one view take the frontal tokens' way, through their own view's expert.
    fn entry_of_single(&self, pixels: &Tensor, view: View) -> Entry<'_> {
        let pixels = pixels.shallow_clone();
        let embed = move |_: &[Tensor]| {
            let frontal = self.with_class_token(&self.stem.forward(&self.normalise(&pixels)));
            Tokens { lateral: frontal.narrow(0, 0, 0), frontal }.into_states()
        };
        Entry { embed: Box::new(embed), keys: None, back: None, view }
    }

    /// `[B, S, S]` uint8 to `[B, 1, S, S]` in `[-1, 1]`.
    fn normalise(&self, pixels: &Tensor) -> Tensor {
        let kind = self.stem.kind();
        ((pixels.unsqueeze(1).to_kind(at_least_float(kind)) / 255.0 - 0.5) / 0.5).to_kind(kind)
    }

    fn with_class_token(&self, patches: &Tensor) -> Tensor {
        let size = patches.size();
        let class_token = self.class_token.expand([size[0], 1, size[2]], false);
        Tensor::cat(&[class_token, patches.to_kind(self.positions.kind())], 1) + &self.positions
    }

    /// The lateral view's positions: entries `1…P` of the table.
    fn patch_positions(&self) -> Tensor {
        self.positions.narrow(1, 1, self.positions.size()[1] - 1)
    }
}

/// The tokens between two blocks.
struct Tokens {
    /// `[B, 1+P, H]`, studies with a lateral view first.
    frontal: Tensor,
    /// `[L, P, H]`, of the first `L` studies.
    lateral: Tensor,
}

impl Tokens {
    fn from_states(states: &[Tensor]) -> Tokens {
        Tokens { frontal: states[0].shallow_clone(), lateral: states[1].shallow_clone() }
    }

    fn into_states(self) -> Vec<Tensor> {
        vec![self.frontal, self.lateral]
    }

    fn map(self, each: impl Fn(&Tensor) -> Tensor) -> Tokens {
        Tokens { frontal: each(&self.frontal), lateral: each(&self.lateral) }
    }
}

/// What the last stage of a chain gives.
#[derive(Clone, Copy)]
enum Wanted {
    /// The states of [`ImageFeatures`].
    Features,
    /// The `[CLS]` state alone.
    ClassState,
}

/// Tokens before the first block, and what is needed to restore the order afterwards.
struct Entry<'a> {
    /// Gives the [`Tokens`].
    embed: Stage<'a>,
    /// As in [`Block::forward`].
    keys: Option<Tensor>,
    /// Each study's row after the blocks; `None` where studies keep their order.
    back: Option<Vec<i64>>,
    /// Whose expert the frontal tokens go through.
    view: View,
}

/// One pre-norm transformer block: attention over all tokens of a study, then each view's own
/// expert.
#[derive(Debug)]
struct Block {
    norm: LayerNorm,
    qkv: Linear,
    projection: Linear,
    experts: ViewExperts,
    heads: i64,
}

impl Block {
    fn new(scope: &Scope, config: &ImageConfig, of_lateral: View) -> Block {
        let width = config.hidden_size;
        Block {
            norm: LayerNorm::new(&scope.at("norm"), width, config.epsilon),
            qkv: Linear::new(&scope.at("attention.qkv"), width, 3 * width),
            projection: Linear::new(&scope.at("attention.projection"), width, width),
            experts: ViewExperts::new(scope, width, config.intermediate_size, config.epsilon, of_lateral),
            heads: config.num_heads,
        }
    }

    /// * `keys`: `[L, 1, 1, 1+2P]` bool, true where a key exists; `None` when all do.
    /// * `view`: whose expert the frontal tokens go through.
    fn forward(&self, tokens: &Tokens, keys: Option<&Tensor>, view: View) -> Tokens {
        let (frontal, lateral) = self.attend().forward(&tokens.frontal, &tokens.lateral, keys);
        let frontal = self.experts.forward(&frontal, view);
        if lateral.size()[0] == 0 {
            return Tokens { frontal, lateral };
        }
        Tokens { frontal, lateral: self.experts.forward(&lateral, View::Lateral) }
    }

    fn attend(&self) -> Attend<'_> {
        Attend { norm: &self.norm, qkv: &self.qkv, projection: &self.projection, heads: self.heads }
    }

    /// The `[CLS]` states of [`Block::forward`], `[B, H]`.
    fn class_state(&self, tokens: &Tokens, keys: Option<&Tensor>, view: View) -> Tensor {
        let Tokens { frontal, lateral } = tokens;
        let (studies, paired) = (frontal.size()[0], lateral.size()[0]);
        let mut states = Vec::new();
        if paired > 0 {
            let both = Tensor::cat(&[frontal.narrow(0, 0, paired), lateral.shallow_clone()], 1);
            states.push(self.attend().first(&both, keys));
        }
        if paired < studies {
            states.push(self.attend().first(&frontal.narrow(0, paired, studies - paired), None));
        }
        match states.as_slice() {
            [] => frontal.select(1, 0),
            states => self.experts.forward(&Tensor::cat(states, 0), view),
        }
    }
}

/// Rows of `x` in another order.
fn in_order(x: Tensor, rows: Option<&[i64]>) -> Tensor {
    match rows {
        Some(rows) => x.index_select(0, &send_rows(rows, x.device())),
        None => x,
    }
}

/// Study numbers with those of `rows` (ascending) first.
fn lateral_first(studies: i64, rows: &[i64]) -> Vec<i64> {
    let others = (0..studies).filter(|study| rows.binary_search(study).is_err());
    rows.iter().copied().chain(others).collect()
}

fn inverse(order: &[i64]) -> Vec<i64> {
    let mut back = vec![0; order.len()];
    for (place, &row) in order.iter().enumerate() {
        back[row as usize] = place as i64;
    }
    back
}

/// Refuses images whose shape does not fit the configuration.
pub(super) fn check_input(input: &ImageInput, config: &ImageConfig) -> Result<()> {
    let side = config.size;
    let laterals = input.lateral_rows.len() as i64;
    let rows_fit = input.lateral_rows.windows(2).all(|pair| pair[0] < pair[1])
        && input.lateral_rows.iter().all(|&row| (0..input.studies()).contains(&row));
    if input.frontal.size()[1..] != [side, side]
        || (laterals > 0 && input.lateral.size() != [laterals, side, side])
        || !rows_fit
    {
        return Err(crate::Error::Training(format!(
            "images of shape {:?} with {} lateral views of shape {:?} do not fit a model for {side}×{side} pixels",
            input.frontal.size(),
            laterals,
            input.lateral.size()
        )));
    }
    Ok(())
}
