//! From a table to a corpus and back, with the input that people really have: real radiographs
//! where they are present (`MEDST_SHARED_DIR`, by default `../shared`), and every kind of damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use medst_data::corpus::Corpus;
use medst_data::import::{self, PrepareOptions, Source, Summary, prepare_table};
use medst_data::progress::{Progress, Silent};
use medst_data::ranks::Ranks;
use medst_data::sequence::SequenceUnit;
use medst_data::split::Split;

const REPORT: &str = "No focal consolidation. Heart size is normal.";

fn png(path: &Path, width: u32, height: u32, value: u8) {
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(&vec![value; (width * height) as usize]).unwrap();
}

/// A folder with pictures `0.png` … `9.png`, each of one grey value.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..10u8 {
        png(&folder.path().join(format!("{n}.png")), 40, 30, 10 + n);
    }
    folder
}

fn prepare(folder: &Path, table: &str, options: &PrepareOptions) -> Result<Summary, String> {
    let path = folder.join("studies.csv");
    fs::write(&path, table).unwrap();
    prepare_table(&path, &folder.join("corpus"), options, &Silent).map_err(|error| error.to_string())
}

fn options() -> PrepareOptions {
    PrepareOptions { image_size: 32, ..PrepareOptions::default() }
}

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("MEDST_SHARED_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from)
        .join("data");
    if folder.exists() {
        return Some(folder);
    }
    println!("skipped: {} is not here", folder.display());
    None
}

#[test]
fn what_should_be_known_of_pictures_is_counted() {
    let folder = folder();
    for n in 0..4 {
        // 12 bits in words of 16, as many detectors give them.
        let file = fs::File::create(folder.path().join(format!("{n}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, 40, 30);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Sixteen);
        let pixels: Vec<u8> = (0..40 * 30u16).flat_map(|pixel| (pixel * 3 + 400).to_be_bytes()).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    }
    let rows: String = (0..10).map(|n| format!("s{n},PA,{n}.png,train\n")).collect();
    let summary = prepare(folder.path(), &format!("subject_id,view,image,split\n{rows}"), &options()).unwrap();
    assert_eq!(summary.counts.images, 10);
    let notes: Vec<_> = summary
        .warnings
        .iter()
        .filter(|(note, _)| note.contains("the upper of 16 bits per pixel are unused"))
        .collect();
    assert_eq!(notes.iter().map(|(_, count)| **count).collect::<Vec<_>>(), [4], "{summary}");
    let manifest = fs::read_to_string(folder.path().join("corpus/corpus.json")).unwrap();
    assert!(manifest.contains(notes[0].0.as_str()), "{manifest}");
}

#[test]
fn visits_become_studies_and_studies_become_sequences() {
    let folder = folder();
    let table = format!(
        "subject_id,study_id,day,view,image,report,split,finding\n\
         a,a2,9,PA,0.png,{REPORT},train,x\na,a1,2,AP,1.png,{REPORT},train,y\na,a1,2,LATERAL,2.png,{REPORT},train,y\n\
         a,a1,2,PA,3.png,{REPORT},train,y\nb,b1,,PA,4.png,,test,\n"
    );
    let summary = prepare(folder.path(), &table, &options()).unwrap();
    assert!(summary.skipped.is_empty(), "{summary}");
    let corpus = Corpus::open(&folder.path().join("corpus")).unwrap();
    let studies = corpus.studies();
    assert_eq!(studies.iter().map(|s| s.study.0.as_str()).collect::<Vec<_>>(), ["a2", "a1", "b1"]);
    // The grey value of the picture's middle identifies the file it came from.
    let grey = |index| corpus.image(index).unwrap()[32 * 16 + 16] - 10;
    assert_eq!(grey(studies[0].frontal), 0);
    assert_eq!(grey(studies[1].frontal), 1);
    assert_eq!(studies[1].alternative_frontals.iter().map(|&i| grey(i)).collect::<Vec<_>>(), [3]);
    assert_eq!(studies[1].lateral.map(grey), Some(2));
    assert_eq!(studies[0].report.as_deref(), Some("no focal consolidation\nheart size is normal"));
    assert_eq!(studies[1].labels["finding"], "y");
    assert_eq!(studies[2].split, Split::Test);
    assert_eq!(studies[2].report, None);
    let sequences: Vec<_> = corpus.sequences().iter().map(|s| s.studies.clone()).collect();
    assert_eq!(sequences, [vec![1, 0], vec![2]]);
    assert!(summary.to_string().contains("1 studies have no report"), "{summary}");
}

#[test]
fn the_image_unit_makes_every_frontal_a_step() {
    let folder = folder();
    let table = "subject_id,study_id,day,view,image,split\na,a1,2,AP,1.png,train\na,a1,2,LATERAL,2.png,train\na,a1,2,PA,3.png,train\n";
    prepare(folder.path(), table, &PrepareOptions { sequence_unit: SequenceUnit::Image, ..options() }).unwrap();
    let corpus = Corpus::open(&folder.path().join("corpus")).unwrap();
    assert_eq!(corpus.studies().len(), 2);
    assert!(corpus.studies().iter().all(|study| study.lateral.is_some()));
    assert_eq!(corpus.sequences()[0].studies, [0, 1]);
}

#[test]
fn unusable_rows_are_counted_by_reason_and_move_nobody_elses_data() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("empty.jpg"), b"").unwrap();
    let whole = include_bytes!("../../medst-image/tests/fixtures/image/grey.jpg");
    fs::write(at("cut.jpg"), &whole[..whole.len() * 2 / 3]).unwrap();
    fs::write(at("text.png"), b"this is not a picture").unwrap();
    png(&at("thin.png"), 1, 300, 9);
    let table = "subject_id,day,view,image,split\n\
         a,1,PA,empty.jpg,train\nb,1,PA,cut.jpg,train\nc,1,PA,text.png,train\nd,1,PA,thin.png,train\n\
         e,1,PA,absent.png,train\nf,1,OBLIQUE,1.png,train\ng,1,LATERAL,2.png,train\nh,1,PA,3.png,train\n\
         ,1,PA,4.png,train\ni,1,PA,3.png,train\nj,soon,PA,5.png,train\nk,NaN,PA,6.png,train\n";
    let summary = prepare(folder.path(), table, &options()).unwrap();
    for reason in [
        "the file is empty",
        "truncated JPEG: entropy-coded data are missing",
        "not a JPEG, PNG or DICOM file",
        "image too narrow: 1×300 pixels cannot be resized to 32 pixels",
        "image file does not exist",
        "unknown view `OBLIQUE` (expected PA, AP, LATERAL or LL)",
        "subject_id is missing",
        "image is listed twice",
    ] {
        assert_eq!(summary.skipped.get(reason), Some(&1), "{reason}\n{summary}");
    }
    // Five studies lost their only image, one has only a lateral image.
    assert_eq!(summary.skipped["study has no readable frontal image"], 6);
    assert_eq!(summary.warnings["images whose day or date is unreadable, not used in sequences"], 1);
    let corpus = Corpus::open(&folder.path().join("corpus")).unwrap();
    let kept: Vec<_> = corpus
        .studies()
        .iter()
        .map(|s| (s.subject.0.as_str(), corpus.image(s.frontal).unwrap()[16 * 32 + 16] - 10))
        .collect();
    assert_eq!(kept, [("h", 3), ("j", 5), ("k", 6)]);
    let listed = fs::read_to_string(at("corpus/skipped.csv")).unwrap();
    assert_eq!(listed.lines().count() as u64, 1 + summary.skipped.values().sum::<u64>());
    assert!(listed.contains("empty.jpg,1,the file is empty"), "{listed}");
}

#[test]
fn what_cannot_be_meant_is_an_error_with_its_row() {
    let folder = folder();
    for (table, expected) in [
        (
            "subject_id,view,image,split\na,PA,1.png,train\na,PA,2.png,test\n",
            "row 2: subject `a` is in test here and in train in row 1",
        ),
        (
            "subject_id,study_id,view,image\na,s,PA,1.png\nb,s,PA,2.png\n",
            "row 2: study `s` belongs to subject `b` here and to `a` in row 1",
        ),
        ("subject_id,view,image,split\na,PA,1.png,trian\n", "row 1: split is `trian`"),
        (
            "subject_id,view,image\na,PA,absent.png\n",
            "no study is usable; rows were left out because: 1 × image file does not exist",
        ),
        ("subject_id,view,image\n", "no rows"),
    ] {
        let error = prepare(folder.path(), table, &options()).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!folder.path().join("corpus").exists(), "nothing may be left at the target: {error}");
    }
}

#[test]
fn a_target_is_replaced_only_when_it_is_a_corpus_and_asked_for() {
    let folder = folder();
    let table = "subject_id,view,image\na,PA,1.png\n";
    prepare(folder.path(), table, &options()).unwrap();
    assert!(prepare(folder.path(), table, &options()).unwrap_err().contains("--overwrite"));
    prepare(folder.path(), table, &PrepareOptions { overwrite: true, ..options() }).unwrap();
    fs::remove_file(folder.path().join("corpus/corpus.json")).unwrap();
    let error = prepare(folder.path(), table, &PrepareOptions { overwrite: true, ..options() }).unwrap_err();
    assert!(error.contains("is not a corpus"), "{error}");
}

#[test]
fn damaged_corpora_are_not_opened() {
    let folder = folder();
    prepare(folder.path(), "subject_id,view,image\na,PA,1.png\n", &options()).unwrap();
    let corpus = folder.path().join("corpus");
    let open = || Corpus::open(&corpus).map(|_| ()).map_err(|error| error.to_string());
    open().unwrap();
    let shard = corpus.join("images-00000.npy");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() - 1]).unwrap();
    assert!(open().unwrap_err().contains("images-00000.npy"));
    fs::write(&shard, &whole).unwrap();
    fs::remove_file(corpus.join("corpus.json")).unwrap();
    assert!(open().unwrap_err().contains("medst prepare"));
}

/// Stops after a number of images.
struct StopAfter(u64, AtomicU64);

impl Progress for StopAfter {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, count: u64) {
        self.1.fetch_add(count, Ordering::Relaxed);
    }
    fn stop_requested(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// A table of so many studies of subjects with five each; every seventh picture is missing.
fn pictures(folder: &Path, count: usize) -> PathBuf {
    let mut table = "subject_id,day,view,image\n".to_string();
    for n in 0..count {
        let name = format!("{n}.png");
        if n % 7 != 0 {
            png(&folder.join(&name), 20, 20, (n % 250) as u8);
        }
        table += &format!("s{},{n},PA,{name}\n", n / 5);
    }
    let path = folder.join("studies.csv");
    fs::write(&path, &table).unwrap();
    path
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = pictures(folder.path(), 1500);
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    prepare_table(&path, &whole, &options(), &Silent).unwrap();
    // More than one of the two lanes can decode ahead of the other (two blocks of 128), so that the
    // first block is written.
    let stop = StopAfter(300, AtomicU64::new(0));
    assert!(prepare_table(&path, &resumed, &options(), &stop).is_err());
    assert!(!resumed.exists());
    // As if the program had been killed while it wrote: a picture and half a line of the journal
    // too many.
    let staging = folder.path().join("resumed.partial");
    let mut journal = fs::read_to_string(staging.join("journal-000000000.jsonl")).unwrap();
    journal += "{\"failures\":[nu";
    fs::write(staging.join("journal-000000000.jsonl"), journal).unwrap();
    let mut shard = fs::read(staging.join("part-000000000-00000.npy")).unwrap();
    shard.extend([7; 32 * 32 / 2]);
    fs::write(staging.join("part-000000000-00000.npy"), shard).unwrap();
    prepare_table(&path, &resumed, &options(), &Silent).unwrap();
    assert!(bytes_of(&whole) == bytes_of(&resumed));
    assert!(!staging.exists());
}

/// A process of several that are threads.
struct Thread<'a> {
    rank: usize,
    said: &'a [Mutex<Vec<u8>>],
    meeting: &'a Barrier,
}

impl Ranks for Thread<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.said.len()
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        *self.said[self.rank].lock().unwrap() = bytes.to_vec();
        self.meeting.wait();
        let all = self.said.iter().map(|said| said.lock().unwrap().clone()).collect();
        self.meeting.wait();
        all
    }
}

/// Prepares with several processes, the last of which is asked to stop after a number of pictures.
/// Returns the result of each.
fn prepare_by(processes: usize, table: &Path, out: &Path, stop: u64) -> Vec<Result<Option<Summary>, String>> {
    let said: Vec<Mutex<Vec<u8>>> = (0..processes).map(|_| Mutex::default()).collect();
    let meeting = Barrier::new(processes);
    std::thread::scope(|scope| {
        let (said, meeting) = (&said, &meeting);
        let all: Vec<_> = (0..processes)
            .map(|rank| {
                scope.spawn(move || {
                    let limit = if rank + 1 == processes { stop } else { u64::MAX };
                    let (ranks, progress) = (Thread { rank, said, meeting }, StopAfter(limit, AtomicU64::new(0)));
                    let source = Source::Table(table.to_path_buf());
                    import::prepare(&source, out, &options(), &ranks, &progress).map_err(|error| error.to_string())
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn several_processes_make_the_corpus_of_one_and_stop_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = pictures(folder.path(), 900);
    let at = |name: &str| folder.path().join(name);
    let expected = prepare_table(&path, &at("one"), &options(), &Silent).unwrap();
    for processes in [2, 5] {
        let out = at(&format!("by-{processes}"));
        let mut results = prepare_by(processes, &path, &out, u64::MAX).into_iter();
        let first = results.next().unwrap().unwrap().unwrap();
        assert_eq!((first.counts, &first.skipped), (expected.counts.clone(), &expected.skipped));
        assert!(results.all(|other| other.unwrap().is_none()), "one speaks for all");
        assert!(bytes_of(&at("one")) == bytes_of(&out));
    }
    let out = at("stopped");
    // No process goes on without the one that was asked to stop.
    for stopped in prepare_by(3, &path, &out, 0) {
        assert!(stopped.unwrap_err().contains("stopped on request"));
    }
    assert!(!out.exists());
    let begun = fs::read_dir(at("stopped.partial")).unwrap().flatten().map(|entry| entry.file_name());
    assert!(begun.filter(|name| name.to_string_lossy().starts_with("journal-")).count() >= 2, "the others had begun");
    for result in prepare_by(2, &path, &out, u64::MAX) {
        result.unwrap();
    }
    assert!(bytes_of(&at("one")) == bytes_of(&out));
    assert!(!at("stopped.partial").exists());
}

#[test]
fn real_radiographs_become_corpora() {
    let Some(data) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, images, subjects) in [("open-cxr", 93, 45), ("hannover", 243, 71)] {
        let table = data.join(name).join("studies.csv");
        let out = folder.path().join(name);
        let summary = prepare_table(&table, &out, &PrepareOptions::default(), &Silent).unwrap();
        println!("{summary}");
        let corpus = Corpus::open(&out).unwrap();
        assert_eq!(corpus.images(), images, "{name}: every picture is readable");
        assert!(corpus.manifest().counts.subjects <= subjects);
        assert!(corpus.manifest().counts.full_sequences > 0);
        if name == "hannover" {
            assert_eq!(corpus.manifest().counts.with_report, 0);
            assert!(summary.to_string().contains("no report"));
        } else {
            assert!(corpus.manifest().counts.with_lateral >= 10);
        }
    }
}

#[test]
fn what_an_earlier_run_left_never_enters_the_corpus() {
    let folder = folder();
    let table = "subject_id,view,image\na,PA,0.png\n";
    let partial = folder.path().join("corpus.partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("thesis.txt"), "years of work").unwrap();
    let error = prepare(folder.path(), table, &options()).unwrap_err();
    assert!(error.contains("corpus.partial") && error.contains("other files"), "{error}");
    assert!(partial.join("thesis.txt").exists());

    // A run over another source, interrupted after its second shard.
    fs::remove_file(partial.join("thesis.txt")).unwrap();
    fs::write(partial.join("journal.jsonl"), "another identity\n").unwrap();
    fs::write(partial.join("images-00001.npy"), "stale").unwrap();
    prepare(folder.path(), table, &options()).unwrap();
    assert!(!folder.path().join("corpus/images-00001.npy").exists());
    assert_eq!(Corpus::open(&folder.path().join("corpus")).unwrap().images(), 1);
}
