//! The gradient of a batch in chunks, or on several threads, is that of the batch in one piece,
//! dropout included.

mod bench;

use bench::Bench;
use bench::beyond::BEYOND_THE_PAPER;
use medst_data::report::WordPiece;
use medst_data::split::Split;
use medst_model::loss::{self, Losses};
use medst_model::model::config::Semantics;
use medst_model::model::lanes::Lanes;
use medst_model::model::{MedSt, Mode};
use medst_train::train::dataset::{Crop, Dataset};
use medst_train::train::grad_cache::{self, ActivationBudget};
use medst_train::train::gradients::{Differentiated, Gradients};
use medst_train::train::lanes;
use tch::{Device, Kind, Tensor};

fn farthest(a: &[Tensor], b: &[Tensor]) -> f64 {
    let square = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]);
    let (mut apart, mut all) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        apart += square(&(a - b));
        all += square(b);
    }
    (apart / all).sqrt()
}

#[test]
fn chunks_have_the_gradient_of_the_whole_batch() {
    let bench = Bench::new(24);
    let corpus = bench.corpus();
    let pieces = WordPiece::bert_cased();
    let paper: &[&str] = &[];
    for (semantics, options) in
        [(Semantics::Corrected, paper), (Semantics::Reference, paper), (Semantics::Corrected, BEYOND_THE_PAPER)]
    {
        let mut config = bench.config("run", &[&["model.text.dropout=0.3"], options].concat());
        config.model.semantics = semantics;
        let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
        let mut batch = dataset.batch(&[0, 1, 2, 3, 4], Crop::Random { seed: 1, epoch: 2 }).unwrap();
        batch.reports.draw(7, 0);
        let studies = batch.images.studies();
        assert!(studies > 9 && !batch.images.lateral_rows.is_empty() && batch.relations.sequences.size()[0] > 0);
        // Each way uses a separate model, because both update the running statistics.
        let model = || MedSt::new(&config.model, 5, Device::Cpu, Kind::Double).unwrap();
        let whole = model();
        let losses = loss::med_st(&whole, &batch, &config.loss, Mode::Train).unwrap();
        let expected = Gradients::compute(&whole, &(&losses.total * 0.5));
        let check = |way: &str, own: &MedSt, found: Differentiated<Losses>| {
            let off = (found.losses.total.double_value(&[]) / losses.total.double_value(&[]) - 1.0).abs();
            assert!(off < 1e-10, "loss of {way}: off by {off:.1e}");
            // The required limit is 1e-5; the remaining differences come from sums in another
            // order.
            let off = farthest(&found.gradients, &expected);
            assert!(off < 1e-8, "gradient of {way}, {semantics:?}, {options:?}: off by {off:.1e}");
            for (a, b) in own.buffers().iter().zip(whole.buffers()) {
                assert!(a.tensor.allclose(&b.tensor, 1e-10, 1e-12, false), "{} moves once", a.name);
            }
        };
        for (chunk, by_block) in [(1, false), (4, false), (studies - 1, false), (studies, true), (4, true)] {
            let (own, budget) = (model(), ActivationBudget { studies: chunk, by_block });
            let found = grad_cache::differentiate(&own, &batch, &config.loss, budget, 0.5, None).unwrap();
            check(&format!("{budget:?}"), &own, found);
        }
        for count in [1, 2, 3] {
            let (own, lanes) = (model(), Lanes::single_threaded(count));
            let found = lanes::differentiate(&own, &batch, &config.loss, lanes, 0.5).unwrap();
            check(&format!("{lanes:?}"), &own, found);
        }
    }
}

#[test]
fn another_seed_drops_other_units() {
    let bench = Bench::new(24);
    let corpus = bench.corpus();
    let pieces = WordPiece::bert_cased();
    let config = bench.config("run", &["model.text.dropout=0.3"]);
    let dataset = Dataset::new(&corpus, &pieces, Split::Train, &config.model, &config.data).unwrap();
    let mut batch = dataset.batch(&[0, 1, 2], Crop::Centre).unwrap();
    let model = MedSt::new(&config.model, 5, Device::Cpu, Kind::Double).unwrap();
    let mut at = |seed| {
        batch.reports.draw(seed, 0);
        loss::med_st(&model, &batch, &config.loss, Mode::Train).unwrap().total.double_value(&[])
    };
    assert!((at(7) - at(7)).abs() < 1e-12);
    assert!((at(7) - at(8)).abs() > 1e-6);
}
