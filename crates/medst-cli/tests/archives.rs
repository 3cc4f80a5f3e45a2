//! Every archive's layout, drawn and prepared with the commands that `medst phantom` names.

mod command;

use std::path::Path;

fn medst(at: &Path, arguments: &[&str]) -> String {
    command::run(at, arguments, 0).0
}

#[test]
fn what_phantom_draws_prepare_reads() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layouts = "table,mimic-cxr-jpg,ms-cxr-t,rsna,covidx,chexpert,chexpert-plus,padchest,padchest-gr,rexgradient,nih,vindr,siim,\
                   ms-cxr,cxr-lt,imagenome,mi-cxr,chextemporal";
    let said = medst(at, &["phantom", "cohort", "--subjects", "60", "--size", "96", "--layout", layouts]);
    let commands: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("medst ")).collect();
    assert_eq!(commands.len(), 18, "{said}");
    for (n, command) in commands.iter().enumerate() {
        let corpus = format!("corpus-{n}");
        let mut arguments: Vec<&str> = command.split(' ').collect();
        *arguments.last_mut().unwrap() = &corpus;
        arguments.extend(["--image-size", "64"]);
        let summary = medst(at, &arguments);
        assert!(summary.contains("studies of"), "{summary}");
        let about = medst(at, &["inspect", &corpus]);
        assert!(about.contains(&format!("from {}", arguments[1])), "{about}");
        arguments.push("--check");
        assert!(medst(at, &arguments).contains("nothing was written"));
    }
    let benchmark = "cohort/ms-cxr-t/MS_CXR_T_temporal_image_classification_v1.0.0.csv";
    let arguments = ["prepare", "mimic-cxr", "cohort/mimic-cxr-jpg", "--out", "without", "--exclude", benchmark];
    assert!(medst(at, &arguments).contains("images excluded by MS_CXR_T_temporal_image_classification_v1.0.0.csv"));
}
