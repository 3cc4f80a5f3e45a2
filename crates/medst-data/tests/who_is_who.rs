//! Ids in other forms, and pictures under other names: no patient gets into two parts unnoticed.

use std::fs;
use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::import::mimic_cxr::MimicCxr;
use medst_data::import::{PrepareOptions, Source, Summary, prepare, prepare_table};
use medst_data::progress::Silent;
use medst_data::ranks::Alone;

/// A picture with structure that `seed` moves.
fn png(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
    encoder.set_color(png::ColorType::Grayscale);
    let pixels: Vec<u8> =
        (0..64 * 64u32).map(|at| ((at % 64) * (1 + seed % 7) + (at / 64) * (2 + seed)) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with different pictures `i/0.png` … `i/9.png`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    (0..10).for_each(|seed| png(&folder.path().join(format!("i/{seed}.png")), seed));
    folder
}

struct Given<'a> {
    table: &'a str,
    exclude: Option<&'a str>,
    splits: Option<&'a str>,
}

impl Given<'_> {
    fn prepare(&self, folder: &Path) -> Result<(Summary, Corpus), String> {
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let table = write("studies.csv", self.table);
        let options = PrepareOptions {
            image_size: 32,
            overwrite: true,
            exclude: self.exclude.map(|text| write("exclude.csv", text)).into_iter().collect(),
            splits: self.splits.map(|text| write("splits.csv", text)),
            ..PrepareOptions::default()
        };
        let out = folder.join("corpus");
        let summary = prepare_table(&table, &out, &options, &Silent).map_err(|error| error.to_string())?;
        Ok((summary, Corpus::open(&out).unwrap()))
    }
}

fn subjects(corpus: &Corpus) -> Vec<(&str, &str)> {
    corpus.studies().iter().map(|study| (study.subject.0.as_str(), study.split.name())).collect()
}

const TABLE: &str = "subject_id,study_id,view,image\n10000032,51,PA,i/0.png\n10000048,52,PA,i/1.png\n007,53,PA,i/2.png\n\
                     P55,54,PA,i/3.png\n";

#[test]
fn an_exclusion_list_keeps_out_who_is_meant_in_whatever_form() {
    let folder = folder();
    for (list, kept_out) in [
        ("subject_id,note\n10000032.0,x\n,\n", "10000032"),
        ("subject_id\n1.0000032e7\n", "10000032"),
        ("subject_id\np10000032\n", "10000032"),
        ("subject_id\n10000032\n99999999\n", "10000032"),
        ("subject_id\n7\n", "007"),
        ("subject_id\np55\n", "P55"),
        ("study_id\n52.0\n", "10000048"),
        ("study_id;x\ns52;1\n", "10000048"),
        ("dicom_id\n2\n", "007"),
        // Subjects in a form that is not the source's, studies in one that is.
        ("subject_id,study_id\nHOSPITAL-1,54\n", "P55"),
    ] {
        let given = Given { table: TABLE, exclude: Some(list), splits: None };
        let (summary, corpus) = given.prepare(folder.path()).unwrap();
        assert!(
            corpus.studies().len() == 3 && subjects(&corpus).iter().all(|(subject, _)| *subject != kept_out),
            "{list}"
        );
        assert_eq!(summary.skipped["subject is excluded by exclude.csv"], 1, "{list}\n{summary}");
        assert_eq!(summary.warnings["images excluded by exclude.csv (1 subjects)"], 1, "{summary}");
    }
    let given = Given { table: TABLE, exclude: Some("subject_id\n10000032.0\n"), splits: None };
    let (summary, corpus) = given.prepare(folder.path()).unwrap();
    let note = "IDs of exclude.csv are written in another form (`10000032.0` for `10000032`)";
    assert_eq!(summary.warnings[note], 1, "{summary}");
    // Ids keep their letters and zeros.
    assert_eq!(subjects(&corpus).iter().map(|(subject, _)| *subject).collect::<Vec<_>>(), ["10000048", "007", "P55"]);
}

#[test]
fn an_exclusion_list_that_keeps_nobody_out_or_is_ambiguous_is_an_error_with_both_forms() {
    let folder = folder();
    let two = "subject_id,view,image\n7,PA,i/0.png\n007,PA,i/1.png\n";
    for (table, list, words) in [
        (TABLE, "subject_id\nA-1\n", &["exclude.csv: excludes no subject", "`A-1`", "`10000032`"][..]),
        (TABLE, "dicom_id\nabc\n", &["excludes no subject", "`abc`", "`0`"]),
        (TABLE, "subject_id\n\n,\n", &["exclude.csv", "cells"]),
        (TABLE, "subject_id,x\n,1\n", &["lists no subject, study or image"]),
        (TABLE, "subject_id\n10000032\n1.0E+07\n", &["exclude.csv: row 2", "`1.0E+07`", "lost digits"]),
        (two, "subject_id\n7.0\n", &["exclude.csv: row 1", "`7.0` may mean any of `7`, `007`"]),
    ] {
        let error = Given { table, exclude: Some(list), splits: None }.prepare(folder.path()).err().unwrap();
        assert!(words.iter().all(|words| error.contains(words)), "{list}: {error}");
    }
    let (summary, corpus) =
        Given { table: two, exclude: Some("subject_id\n7\n"), splits: None }.prepare(folder.path()).unwrap();
    assert_eq!(subjects(&corpus)[0].0, "007");
    assert_eq!(summary.warnings["subjects kept whose IDs differ only in form from those of excluded subjects"], 1);
}

/// The benchmark names a patient by an image that cannot be used itself.
#[test]
fn rows_that_are_left_out_still_tell_whose_they_are() {
    let folder = folder();
    let table = "subject_id,study_id,view,image\na,a1,OBLIQUE,i/0.png\na,a2,PA,i/1.png\nb,b1,PA,i/2.png\n";
    for list in ["study_id\na1\n", "dicom_id\n0\n"] {
        let (_, corpus) = Given { table, exclude: Some(list), splits: None }.prepare(folder.path()).unwrap();
        assert_eq!(subjects(&corpus).iter().map(|(subject, _)| *subject).collect::<Vec<_>>(), ["b"], "{list}");
    }
}

#[test]
fn split_files_are_matched_by_the_same_rule() {
    let folder = folder();
    let all = [("10000032", "test"), ("10000048", "train"), ("007", "validate"), ("P55", "train")];
    for splits in [
        "subject_id,split\n10000032.0,test\n10000048.0,train\n7.0,validate\np55,train\n",
        "study_id\tsplit\n51.0\ttest\ns52\ttrain\n53\tvalidate\n54\ttrain\n",
        "image,split\ni/0.png,test\nelsewhere/i/1.jpg,train\n2,validate\n3.png,train\n",
    ] {
        let given = Given { table: TABLE, exclude: None, splits: Some(splits) };
        assert_eq!(subjects(&given.prepare(folder.path()).unwrap().1), all, "{splits}");
    }
    for (splits, words) in [
        ("subject_id,split\nA-1,test\n", &["splits.csv: assigns no split", "`A-1`"][..]),
        ("subject_id,split\n007,test\n7.0,train\n", &["splits.csv: row 2", "`7.0` is in train", "`007` is in test"]),
    ] {
        let error = Given { table: TABLE, exclude: None, splits: Some(splits) }.prepare(folder.path()).err().unwrap();
        assert!(words.iter().all(|words| error.contains(words)), "{error}");
    }
}

#[test]
fn ids_that_differ_only_in_form_are_never_in_two_parts_and_stay_apart() {
    let folder = folder();
    for (one, other) in [("P1", "p1"), ("007", "7"), ("7", "7.0")] {
        let table = format!("subject_id,view,image,split\n{one},PA,i/0.png,train\n{other},PA,i/1.png,test\n");
        let error = Given { table: &table, exclude: None, splits: None }.prepare(folder.path()).err().unwrap();
        let words = format!("row 2: subject `{other}` is in test here and `{one}` in train in row 1");
        assert!(error.contains(&words), "{error}");
        // Together: stated, or by the hash of the first.
        for table in
            [table.replace("test", "train"), table.replace(",split", "").replace(",train", "").replace(",test", "")]
        {
            let (summary, corpus) =
                Given { table: &table, exclude: None, splits: None }.prepare(folder.path()).unwrap();
            let found = subjects(&corpus);
            assert_eq!((found[0].0, found[1].0, found[0].1), (one, other, found[1].1));
            assert!(summary.warnings.keys().any(|note| note.contains("differ only in form")), "{summary}");
        }
    }
}

#[test]
fn one_file_under_several_spellings_is_of_one_subject() {
    let folder = folder();
    std::os::unix::fs::symlink(folder.path().join("i/0.png"), folder.path().join("link.png")).unwrap();
    for spelling in ["./i/0.png", "i/../i/0.png", "i//0.png", "link.png"] {
        let table = format!("subject_id,view,image,split\na,PA,i/0.png,train\nb,PA,{spelling},validate\n");
        let error = Given { table: &table, exclude: None, splits: None }.prepare(folder.path()).err().unwrap();
        let words =
            "row 2: the same image file belongs to subject `a` in train in row 1, and to subject `b` in validate here";
        assert!(error.contains(words), "{error}");
        let together = table.replace("validate", "train");
        let (summary, corpus) = Given { table: &together, exclude: None, splits: None }.prepare(folder.path()).unwrap();
        assert_eq!((summary.skipped["image is listed twice"], corpus.studies().len()), (1, 1));
    }
}

#[test]
fn equal_pictures_of_several_subjects_stay_in_the_strictest_part_only() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::copy(at("i/0.png"), at("copy.png")).unwrap();
    fs::copy(at("i/1.png"), at("other.png")).unwrap();
    // Nearly a copy: one grey level more, here and there.
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
    encoder.set_color(png::ColorType::Grayscale);
    let pixels: Vec<u8> =
        (0..64 * 64u32).map(|at| (((at % 64) * 3 + (at / 64) * 4) as u8) ^ u8::from(at % 5 == 0)).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    fs::write(at("near.png"), bytes).unwrap();
    let table = "subject_id,view,image,split\na,PA,i/0.png,train\nb,PA,copy.png,test\nc,PA,i/1.png,train\n\
                 d,PA,other.png,train\ne,PA,i/2.png,train\nf,PA,near.png,validate\n";
    let (summary, corpus) = Given { table, exclude: None, splits: None }.prepare(folder.path()).unwrap();
    let reason = "identical to an image of another subject in a stricter split (test, then validate)";
    assert_eq!(summary.skipped[reason], 1, "{summary}");
    let listed = fs::read_to_string(at("corpus/skipped.csv")).unwrap();
    assert!(listed.contains("i/0.png (as ") && listed.contains("copy.png, row 2)"), "{listed}");
    assert!(subjects(&corpus).iter().all(|(subject, _)| *subject != "a") && subjects(&corpus).len() == 5);
    let kept = "images identical to one of another subject in the same split, kept (such as row 3 of subject `c` and row 4 of subject `d`)";
    assert_eq!(summary.warnings[kept], 2, "{summary}");
    assert_eq!(summary.warnings["images almost identical to one of another subject in another split, kept"], 2);
}

#[test]
fn sectioned_reports_are_found_by_ids_in_other_forms() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = MimicCxr { root: folder.path().into(), ..MimicCxr::default() };
    fs::write(
        at("mimic-cxr-2.0.0-metadata.csv"),
        "dicom_id,subject_id,study_id,ViewPosition,StudyDate,StudyTime\na1,10000032,50414267,PA,21800506,1\n\
         b1,10000032,53189527,PA,21800507,1\n",
    )
    .unwrap();
    fs::write(at("mimic-cxr-2.0.0-split.csv"), "study_id,split\n50414267.0,train\n53189527.0,train\n").unwrap();
    fs::write(at("mimic-cxr-2.0.0-chexpert.csv"), "study_id,Edema\ns50414267,1.0\n").unwrap();
    png(&source.image("10000032", "50414267", "a1"), 1);
    png(&source.image("10000032", "53189527", "b1"), 2);
    let run = |sections: &str| {
        fs::write(at("mimic_cxr_sectioned.csv"), sections).unwrap();
        let options = PrepareOptions { image_size: 32, overwrite: true, ..PrepareOptions::default() };
        let source = Source::MimicCxr(source.clone());
        prepare(&source, &at("corpus"), &options, &Alone, &Silent).map_err(|error| error.to_string())
    };
    run("study,impression,findings\n50414267.0,No acute process.,\n5.3189527e7,,Heart is large.\n").unwrap();
    let corpus = Corpus::open(&at("corpus")).unwrap();
    let reports: Vec<_> = corpus.studies().iter().map(|study| study.report.as_deref().unwrap()).collect();
    assert_eq!(reports, ["no acute process", "heart is large"]);
    assert_eq!(corpus.studies()[0].labels["Edema"], "1");
    let error = run("study,impression,findings\nx-1,No acute process.,\n").unwrap_err();
    assert!(
        error.contains("mimic_cxr_sectioned.csv: has reports for none of the studies") && error.contains("`x-1`"),
        "{error}"
    );
}
