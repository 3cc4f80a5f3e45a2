//! The Med-ST model (paper, section 3.2): an image encoder with view experts, a report encoder,
//! four projection heads and two importance attentions.
//!
//! | file | what |
//! |---|---|
//! | [`config`], [`card`] | sizes and switches; what weights say about themselves |
//! | [`input`] | typed batches |
//! | [`vit`], `stem`, [`view_experts`] | image encoder |
//! | [`stage`] | encoders as chains |
//! | `bert`, `words` | report encoder, word features |
//! | [`projection`], [`importance`], `findings`, [`head`] | heads |
//! | [`cost`] | the operations that a step needs |
//! | [`layers`] | layers that keep less for the backward pass |
//! | [`parameters`] | named tensors and their initialisation |
//! | [`group`] | the parts that a file of weights has completely or not at all |
//! | [`builtin`] | models that are part of the program |
//! | [`pictures`] | the pictures of a corpus as input |
//! | [`lanes`] | how many threads compute batches of their own |
//! | [`weights`] | reading and writing tensors by name |
//!
//! Letters: `B` studies, `L` of them with a lateral view, `P` patches per view, `N` tokens, `W`
//! words, `H` encoder width, `D` embedding width.

pub(crate) mod bert;
pub mod builtin;
pub mod card;
pub mod config;
pub(crate) mod contrast;
pub mod cost;
pub(crate) mod dropout;
pub(crate) mod findings;
pub mod group;
pub mod head;
pub mod importance;
pub mod input;
pub mod lanes;
pub mod layers;
pub mod parameters;
pub mod pictures;
pub mod projection;
pub mod stage;
pub(crate) mod stem;
pub mod view_experts;
pub mod vit;
pub mod weights;
pub(crate) mod words;

use tch::{Device, Kind, Tensor};

use self::bert::ReportEncoder;
use self::config::{Lateral, ModelConfig, Semantics, Temperature};
use self::contrast::Contrast;
use self::findings::{FindingHeads, FindingLogits};
use self::head::Head;
use self::importance::Importance;
use self::input::{ImageInput, ReportInput};
pub use self::parameters::{Parameter, Registry};
use self::parameters::{Scope, at_least_float};
use self::projection::Projection;
use self::stage::Stage;
use self::view_experts::View;
use self::vit::{ImageEncoder, ImageFeatures};
use crate::device::send_rows;
use crate::distributed::Group;
use crate::{Error, Result, ops};

/// Whether batch statistics and dropout behave as in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Train,
    Evaluate,
}

/// The Med-ST model.
#[derive(Debug)]
pub struct MedSt {
    pub config: ModelConfig,
    pub image_encoder: ImageEncoder,
    pub report_encoder: ReportEncoder,
    image_global: Projection,
    patch_local: Projection,
    report_global: Projection,
    word_local: Projection,
    pub word_importance: Importance,
    pub patch_importance: Importance,
    finding_heads: Option<FindingHeads>,
    /// The learned temperature of contrasts over the batch; `None` where it is fixed.
    pub(crate) contrast: Option<Contrast>,
    head: Option<Head>,
    registry: Registry,
    int8: bool,
}

/// The image side of `B` studies. All embeddings are unit vectors.
#[derive(Debug)]
pub struct ImageEmbeddings {
    /// Encoder states before projection.
    pub features: ImageFeatures,
    /// `[B, D]`.
    pub global: Tensor,
    /// `[B, P, D]`.
    pub frontal_patches: Tensor,
    /// `[L, P, D]`, of the studies in `features.lateral_rows`.
    pub lateral_patches: Tensor,
}

/// The report side of `B` studies. All embeddings are unit vectors.
#[derive(Debug)]
pub struct ReportEmbeddings {
    /// `[B, H]`: the `[CLS]` state.
    pub feature: Tensor,
    /// `[B, W, H]`: summed states of the pieces of each word; zero where no word exists.
    pub word_features: Tensor,
    /// `[B, D]`.
    pub global: Tensor,
    /// `[B, W, D]`; zero where no word exists (in [`Semantics::Reference`] the projection of a zero
    /// row).
    pub words: Tensor,
    /// `[B, W]` bool, true where a word exists.
    pub word_exists: Tensor,
}

impl ReportEmbeddings {
    /// The mean of each report's words, `[B, D]`: its product with a unit vector is their mean
    /// cosine with it.
    pub fn mean_words(&self) -> Tensor {
        let exists = self.word_exists.to_kind(self.words.kind()).unsqueeze(2);
        let count = exists.sum_dim_intlist(&[1i64][..], false, None::<Kind>).clamp_min(1.0);
        (&self.words * exists).sum_dim_intlist(&[1i64][..], false, None::<Kind>) / count
    }
}

/// Whether sums of products in eight bits are exact: x86 processors without VNNI cut them off at
/// sixteen bits, and layers are off by half.
pub fn multiplies_in_int8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

impl MedSt {
    /// Lets the layers of both encoders multiply in eight bits from now on, for inference on a CPU:
    /// about twice as fast as float32 on processors with VNNI, at a cosine of 0.999 or more to its
    /// embeddings (docs/performance.md). The parameters themselves do not change.
    ///
    /// # Errors
    /// A model that is not in float32 on a CPU; a processor without VNNI; a libtorch without
    /// oneDNN.
    pub fn compute_in_int8(&mut self) -> Result<()> {
        if !multiplies_in_int8() {
            return Err(Error::Input("int8 needs a processor with VNNI, which this one lacks; use float32".into()));
        }
        let parameter = &self.registry.parameters[0].tensor;
        if parameter.device() != tch::Device::Cpu || parameter.kind() != Kind::Float {
            return Err(Error::Input("int8 is for float32 models on a CPU; a GPU computes fast in float16".into()));
        }
        ops::guarded(|| {
            self.image_encoder.compute_in_int8();
            self.report_encoder.compute_in_int8();
            Ok(())
        })?;
        self.int8 = true;
        Ok(())
    }

    /// Whether [`MedSt::compute_in_int8`] was called.
    pub fn computes_in_int8(&self) -> bool {
        self.int8
    }

    /// A model with random weights, which depend on `seed` alone.
    ///
    /// * `kind`: float64, float32, or bfloat16 or float16: the encoders then compute in that, with
    ///   rounded copies of float32 parameters; projections, importance, embeddings and losses are
    ///   float32. In the backward pass of that part a GPU multiplies in TF32, which is as fine as
    ///   float16; the model that was made last in a process decides.
    ///
    /// # Errors
    /// Names the key of a configuration that makes no model.
    pub fn new(config: &ModelConfig, seed: u64, device: Device, kind: Kind) -> Result<MedSt> {
        MedSt::build(config, Some(seed), device, kind)
    }

    /// A model whose weights are not written yet: for those who load them, at once.
    pub fn unwritten(config: &ModelConfig, device: Device, kind: Kind) -> Result<MedSt> {
        MedSt::build(config, None, device, kind)
    }

    fn build(config: &ModelConfig, seed: Option<u64>, device: Device, kind: Kind) -> Result<MedSt> {
        config.validate()?;
        let _guard = tch::no_grad_guard();
        if device != Device::Cpu {
            crate::device::allow_tf32(at_least_float(kind) != kind);
        }
        let root = Scope::root(config.initial_deviation, seed, kind, device);
        let (width, projection) = (config.image.hidden_size, &config.projection);
        let precise = root.precise();
        let head = |name: &str, inputs: i64| Projection::new(&precise.at(name), inputs, projection);
        Ok(MedSt {
            config: config.clone(),
            image_encoder: ImageEncoder::new(
                &root.at("image_encoder"),
                &config.image,
                if config.lateral == Lateral::Expert { View::Lateral } else { View::Frontal },
            ),
            report_encoder: ReportEncoder::new(&root.at("report_encoder"), &config.text),
            image_global: head("image_global", width),
            patch_local: head("patch_local", width),
            report_global: head("report_global", config.text.hidden_size),
            word_local: head("word_local", config.text.hidden_size),
            word_importance: Importance::new(&precise.at("word_importance"), projection.embedding),
            patch_importance: Importance::new(&precise.at("patch_importance"), projection.embedding),
            contrast: (config.temperature == Temperature::Learned).then(|| Contrast::new(&precise.at("contrast"))),
            finding_heads: FindingHeads::new(&precise, width, projection.embedding, config.findings.len()),
            // Last, so that the random weights of all others do not depend on whether there is one.
            head: config.head.as_ref().map(|head| Head::new(&precise, head, width)),
            registry: root.into_registry(),
            int8: false,
        })
    }

    /// From now on, batch statistics in training are those of the studies of all these processes.
    pub fn synchronise(&mut self, group: &Group) {
        for head in [&mut self.image_global, &mut self.patch_local, &mut self.report_global, &mut self.word_local] {
            head.synchronise(group);
        }
    }

    /// Trainable parameters, in a fixed order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.registry.parameters
    }

    /// Running statistics (saved, not trained), in a fixed order.
    pub fn buffers(&self) -> &[Parameter] {
        &self.registry.buffers
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.registry.parameters[0].tensor.device()
    }

    /// The image side of a batch.
    ///
    /// # Errors
    /// When the pictures' size does not fit the configuration.
    pub fn embed_images(&self, input: &ImageInput, mode: Mode) -> Result<ImageEmbeddings> {
        self.project_images(self.encode_images(input)?, mode)
    }

    /// The encoder's states of a batch of pictures. A study's do not depend on the others.
    ///
    /// # Errors
    /// As [`MedSt::embed_images`].
    pub fn encode_images(&self, input: &ImageInput) -> Result<ImageFeatures> {
        ops::guarded(|| {
            Ok(ImageFeatures::from_states(stage::run(&self.image_stages(input)?), self.lateral_rows(input)))
        })
    }

    /// [`ImageFeatures::image`] of [`MedSt::encode_images`] alone, `[B, H]`: the last block
    /// computes nothing else, which saves a twelfth of a ViT-B.
    ///
    /// # Errors
    /// As [`MedSt::embed_images`].
    pub fn encode_whole_images(&self, input: &ImageInput) -> Result<Tensor> {
        vit::check_input(input, &self.config.image)?;
        let (input, all_views) = self.encoded_views(input);
        ops::guarded(|| Ok(self.image_encoder.class_states(input, all_views)))
    }

    /// The image encoder as a chain of stages.
    ///
    /// # Errors
    /// As [`MedSt::embed_images`].
    pub fn image_stages<'a>(&'a self, input: &'a ImageInput) -> Result<Vec<Stage<'a>>> {
        vit::check_input(input, &self.config.image)?;
        let (input, all_views) = self.encoded_views(input);
        Ok(self.image_encoder.stages(input, all_views))
    }

    /// The views that are encoded, and whether every study is given both.
    fn encoded_views(&self, input: &ImageInput) -> (ImageInput, bool) {
        match self.config.lateral {
            Lateral::Ignored => (input.frontal_only(), false),
            _ => (input.handle(), self.config.semantics == Semantics::Reference),
        }
    }

    /// The rows of the studies whose lateral views are encoded.
    pub fn lateral_rows(&self, input: &ImageInput) -> Vec<i64> {
        match self.config.lateral {
            Lateral::Ignored => Vec::new(),
            _ if self.config.semantics == Semantics::Reference => (0..input.studies()).collect(),
            _ => input.lateral_rows.clone(),
        }
    }

    /// Embeddings from encoder states. In training the projections' statistics are those of all
    /// studies.
    ///
    /// # Errors
    /// States of another shape.
    pub fn project_images(&self, features: ImageFeatures, mode: Mode) -> Result<ImageEmbeddings> {
        ops::guarded(|| {
            let (studies, patches, width) = features.frontal_patches.size3()?;
            let laterals = features.lateral_patches.size()[0];
            // One projection over the patches of both views: they share weights and batch
            // statistics.
            let rows = Tensor::cat(
                &[
                    features.frontal_patches.reshape([studies * patches, width]),
                    features.lateral_patches.reshape([laterals * patches, width]),
                ],
                0,
            );
            let local = self.patch_local.forward(&rows, mode);
            let embedding = self.config.projection.embedding;
            Ok(ImageEmbeddings {
                global: self.project_image(&features.image, mode),
                frontal_patches: local.narrow(0, 0, studies * patches).view([studies, patches, embedding]),
                lateral_patches: local
                    .narrow(0, studies * patches, laterals * patches)
                    .view([laterals, patches, embedding]),
                features,
            })
        })
    }

    /// Logits of the configured findings from encoder states; `None` where none are configured.
    pub fn finding_logits(&self, features: &ImageFeatures) -> Option<FindingLogits> {
        self.finding_heads.as_ref().map(|heads| heads.forward(features))
    }

    /// The heads of the configured findings.
    pub(crate) fn finding_heads(&self) -> Option<&FindingHeads> {
        self.finding_heads.as_ref()
    }

    /// The head that the model was fine-tuned with; `None` where it was not.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Global embeddings `[B, D]` from the encoder's states of studies, `[B, H]`.
    pub fn project_image(&self, states: &Tensor, mode: Mode) -> Tensor {
        self.image_global.forward(states, mode)
    }

    /// Single pictures `[B, S, S]` (uint8), all of one view: `([B, D]` global, `[B, P, D]` patch
    /// embeddings`)`.
    pub fn embed_single_view(&self, pixels: &Tensor, view: View, mode: Mode) -> (Tensor, Tensor) {
        let (image, patches) = self.image_encoder.forward_single(pixels, view);
        let size = patches.size();
        let local = self.patch_local.forward(&patches.reshape([-1, size[2]]), mode).view([size[0], size[1], -1]);
        (self.image_global.forward(&image, mode), local)
    }

    /// The report side of a batch.
    ///
    /// # Errors
    /// When a report is longer than the position table.
    pub fn embed_reports(&self, input: &ReportInput, mode: Mode) -> Result<ReportEmbeddings> {
        self.project_reports(&self.encode_reports(input, mode)?, input, mode)
    }

    /// The global embeddings of reports alone, `[B, D]`, in evaluation mode: words' own are not
    /// made.
    ///
    /// # Errors
    /// As [`MedSt::embed_reports`].
    pub fn embed_whole_reports(&self, input: &ReportInput) -> Result<Tensor> {
        self.check_length(input)?;
        ops::guarded(|| Ok(self.report_global.forward(&self.report_encoder.class_states(input), Mode::Evaluate)))
    }

    /// The encoder's states of all tokens, `[B, N, H]`. A report's do not depend on the others.
    ///
    /// # Errors
    /// As [`MedSt::embed_reports`].
    pub fn encode_reports(&self, input: &ReportInput, mode: Mode) -> Result<Tensor> {
        ops::guarded(|| Ok(stage::run(&self.report_stages(input, mode)?).remove(0)))
    }

    /// The report encoder as a chain of stages.
    ///
    /// # Errors
    /// As [`MedSt::embed_reports`].
    pub fn report_stages<'a>(&'a self, input: &'a ReportInput, mode: Mode) -> Result<Vec<Stage<'a>>> {
        self.check_length(input)?;
        Ok(self.report_encoder.stages(input, mode))
    }

    fn check_length(&self, input: &ReportInput) -> Result<()> {
        match (input.ids.size()[1], self.config.text.max_positions) {
            (tokens, limit) if tokens > limit => {
                Err(Error::Training(format!("a report of {tokens} tokens exceeds the {limit} positions of the model")))
            }
            _ => Ok(()),
        }
    }

    /// Embeddings from encoder states. In training the projections' statistics are those of all
    /// reports.
    ///
    /// # Errors
    /// States of another shape.
    pub fn project_reports(&self, states: &Tensor, input: &ReportInput, mode: Mode) -> Result<ReportEmbeddings> {
        ops::guarded(|| {
            let feature = states.select(1, 0);
            let word_features = words::sum_pieces(states, input);
            let (studies, words, width) = word_features.size3()?;
            let exists = input.word_exists();
            let embedding = self.config.projection.embedding;
            let local = match self.config.semantics {
                Semantics::Reference => {
                    let local = self.word_local.forward(&word_features.reshape([studies * words, width]), mode);
                    local.view([studies, words, embedding])
                }
                Semantics::Corrected => {
                    // Counted on the host, which knows how many words there are: it does not have
                    // to ask a GPU.
                    let of_report =
                        |(report, &count): (usize, &i64)| (0..count).map(move |word| report as i64 * words + word);
                    let rows: Vec<i64> = input.word_counts.iter().enumerate().flat_map(of_report).collect();
                    let rows = send_rows(&rows, states.device());
                    let local = self
                        .word_local
                        .forward(&word_features.reshape([studies * words, width]).index_select(0, &rows), mode);
                    let padded = Tensor::zeros([studies * words, local.size()[1]], (local.kind(), local.device()));
                    padded.index_copy(0, &rows, &local).view([studies, words, embedding])
                }
            };
            let global = self.report_global.forward(&feature, mode);
            Ok(ReportEmbeddings { feature, word_features, global, words: local, word_exists: exists })
        })
    }

    /// How much `[CLS]` attends to each word in the last layer, `[B, W]`, for inspection.
    pub fn word_attention(&self, input: &ReportInput) -> Tensor {
        let attention = self.report_encoder.class_attention(input);
        words::attention_by_word(&attention, input, self.config.semantics == Semantics::Reference)
    }
}
