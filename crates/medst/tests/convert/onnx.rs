//! Graphs for ONNX, read back by a small reader of the format. What they compute is checked in ONNX
//! Runtime (`tools/onnx_check.sh`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use medst_model::convert::write::write;
use medst_model::convert::{Headed, Request, Target, convert, with_head};
use medst_model::model::head::{HeadConfig, HeadTask};
use medst_model::model::{MedSt, Mode};
use medst_model::open::open_model;
use medst_model::weights_input::Input;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::fixture;

/// A field of a protobuf message: a number, or bytes.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> i64 {
        if let Field::Number(number) = self { *number as i64 } else { panic!("a number is expected") }
    }

    fn bytes(&self) -> &'a [u8] {
        if let Field::Bytes(bytes) = self { bytes } else { panic!("bytes are expected") }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let mut take = |length: usize| {
            let (own, rest) = bytes.split_at(length);
            bytes = rest;
            own
        };
        let field = match tag & 7 {
            5 => Field::Bytes(take(4)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (own, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(own)
            }
            0 => Field::Number(varint(&mut bytes)),
            other => panic!("wire type {other}"),
        };
        all.push((tag >> 3, field));
    }
    all
}

/// All fields of a number.
fn of<'a>(bytes: &'a [u8], number: u64) -> Vec<Field<'a>> {
    fields(bytes).into_iter().filter(|field| field.0 == number).map(|field| field.1).collect()
}

struct Node {
    operator: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

struct Read {
    opset: i64,
    card: String,
    nodes: Vec<Node>,
    /// Data type, shape and bytes.
    weights: BTreeMap<String, (i64, Vec<i64>, Vec<u8>)>,
    /// Name, data type and shape, a name where any size is taken.
    inputs: Vec<(String, i64, Vec<String>)>,
    outputs: Vec<(String, i64, Vec<String>)>,
}

fn read(path: &Path) -> Read {
    let bytes = fs::read(path).unwrap();
    let graph = of(&bytes, 7)[0].bytes();
    let texts = |bytes: &[u8], number: u64| of(bytes, number).iter().map(Field::text).collect::<Vec<_>>();
    let port = |field: &Field| {
        let tensor = of(of(field.bytes(), 2)[0].bytes(), 1)[0].bytes();
        let axes = of(of(tensor, 2)[0].bytes(), 1);
        let axis = |axis: &Field| match &fields(axis.bytes())[0].1 {
            Field::Number(size) => size.to_string(),
            Field::Bytes(name) => String::from_utf8(name.to_vec()).unwrap(),
        };
        (texts(field.bytes(), 1)[0].clone(), of(tensor, 1)[0].number(), axes.iter().map(axis).collect())
    };
    let node = |field: &Field| Node {
        operator: texts(field.bytes(), 4)[0].clone(),
        inputs: texts(field.bytes(), 1),
        outputs: texts(field.bytes(), 2),
    };
    let weight = |field: &Field| {
        let bytes = field.bytes();
        let shape = of(bytes, 1).iter().map(Field::number).collect();
        (texts(bytes, 8)[0].clone(), (of(bytes, 2)[0].number(), shape, of(bytes, 9)[0].bytes().to_vec()))
    };
    Read {
        opset: of(of(&bytes, 8)[0].bytes(), 2)[0].number(),
        card: texts(of(&bytes, 14)[0].bytes(), 2)[0].clone(),
        nodes: of(graph, 1).iter().map(node).collect(),
        weights: of(graph, 5).iter().map(weight).collect(),
        inputs: of(graph, 11).iter().map(port).collect(),
        outputs: of(graph, 12).iter().map(port).collect(),
    }
}

impl Read {
    fn tensor(&self, name: &str) -> Tensor {
        let (element, shape, bytes) = &self.weights[name];
        let kind = match element {
            1 => Kind::Float,
            3 => Kind::Int8,
            7 => Kind::Int64,
            other => panic!("{name}: data type {other}"),
        };
        Tensor::from_data_size(bytes, shape, kind)
    }

    fn operators(&self) -> BTreeSet<&str> {
        self.nodes.iter().map(|node| node.operator.as_str()).collect()
    }
}

/// Exports the model that comes with the program.
fn phantom(out: &Path, int8: bool, overrides: &[&str]) -> medst_model::Result<medst_model::convert::Conversion> {
    convert(&Request {
        inputs: vec![Input::whole("phantom")],
        out: out.to_path_buf(),
        to: Target::Onnx,
        overrides: overrides.iter().map(|text| text.to_string()).collect(),
        int8,
        ..Request::default()
    })
}

fn weight(model: &MedSt, name: &str) -> Tensor {
    let mut all = model.parameters().iter().chain(model.buffers());
    all.find(|entry| entry.name == name).unwrap().tensor.detach()
}

#[test]
fn graphs_are_whole_and_are_what_their_description_says() {
    let folder = tempfile::tempdir().unwrap();
    for (name, int8) in [("float32", false), ("int8", true)] {
        let out = folder.path().join(name);
        assert!(phantom(&out, int8, &[]).unwrap().notes.is_empty());
        let description: Value = serde_json::from_slice(&fs::read(out.join("graphs.json")).unwrap()).unwrap();
        assert_eq!(description["images"]["size"], 64);
        assert_eq!(description["images"]["resize_longest_side"], 72);
        assert_eq!(description["texts"]["max_tokens"], 112);
        let graphs = description["graphs"].as_object().unwrap();
        assert_eq!(graphs.keys().collect::<Vec<_>>(), ["ground.onnx", "image.onnx", "image_lateral.onnx", "text.onnx"]);
        for (file, description) in graphs {
            let graph = read(&out.join(file));
            assert_eq!(graph.opset, 17);
            assert!(graph.card.contains("\"vocabulary_sha256\""), "{}", graph.card);
            let mut known: BTreeSet<&str> = graph.weights.keys().map(String::as_str).collect();
            known.extend(graph.inputs.iter().map(|port| port.0.as_str()));
            let mut used = BTreeSet::from([""]);
            for node in &graph.nodes {
                for input in node.inputs.iter().filter(|input| !input.is_empty()) {
                    assert!(known.contains(input.as_str()), "{file}: {input} comes from nowhere");
                    used.insert(input);
                }
                for output in &node.outputs {
                    assert!(known.insert(output), "{file}: {output} is made twice");
                }
            }
            assert!(graph.weights.keys().all(|name| used.contains(name.as_str())), "{file} holds what nothing uses");
            for (part, ports) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
                assert_eq!(description[part].as_object().unwrap().len(), ports.len());
                for (name, element, shape) in ports {
                    let element = ["", "float32", "uint8", "int8", "", "", "", "int64", "", "bool"][*element as usize];
                    let own = &description[part][name];
                    let shown = own["shape"].as_array().unwrap().iter().map(|axis| axis.to_string().replace('"', ""));
                    assert_eq!(
                        (own["type"].as_str(), shown.collect()),
                        (Some(element), shape.clone()),
                        "{file}: {name}"
                    );
                    assert!(known.contains(name.as_str()), "{file}: {name} is never made");
                    assert!(matches!(shape[0].as_str(), "batch" | "texts"), "{file}: {name}: any number at once");
                }
            }
            let integers = graph.operators().contains("MatMulInteger");
            assert_eq!(integers, int8 && file != "ground.onnx", "{file}");
        }
    }
    let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("int8/text.onnx") * 3 < size("float32/text.onnx") * 2);
}

#[test]
fn weights_are_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let [float, int8] = [("float32", false), ("int8", true)].map(|(name, int8)| {
        let out = folder.path().join(name);
        phantom(&out, int8, &[]).unwrap();
        [read(&out.join("image_lateral.onnx")), read(&out.join("text.onnx"))]
    });
    let model = open_model(Path::new("phantom"), Device::Cpu).unwrap().model;
    let names = [
        ("image_encoder.blocks.0.attention.qkv.weight", 0),
        ("image_encoder.blocks.2.lateral_expert.contract.weight", 0),
        ("report_encoder.layers.1.expand.weight", 1),
    ];
    for (name, graph) in names {
        let ours = weight(&model, name).tr();
        assert!(float[graph].tensor(name).equal(&ours), "{name}");
        // In 8 bits: off by half a step of each output at most.
        let scale = int8[graph].tensor(&name.replace(".weight", ".scale"));
        let small = int8[graph].tensor(name).to_kind(Kind::Float);
        assert!(small.abs().max().double_value(&[]) <= 127.0);
        let steps = ((small * &scale - ours) / &scale).abs().max().double_value(&[]);
        assert!(steps < 0.501, "{name}: {steps} steps");
    }
    // The batch normalisations are folded into the layers before them.
    let states = Tensor::randn([5, 128], (Kind::Float, Device::Cpu));
    let at = |leaf: &str| float[0].tensor(&format!("image_global.{leaf}"));
    let hidden = (states.matmul(&at("expand.weight")) + at("expand.bias")).relu();
    let made = hidden.matmul(&at("contract.weight")) + at("contract.bias");
    let made = &made / made.norm_scalaropt_dim(2.0, &[-1i64][..], true);
    assert!(made.allclose(&model.project_image(&states, Mode::Evaluate), 1e-5, 1e-5, false));
    let table = float[0].tensor("image_encoder.class_token_and_positions");
    let [class, positions] = ["class_token", "positions"].map(|name| weight(&model, &format!("image_encoder.{name}")));
    assert!(table.select(1, 0).equal(&(class.select(1, 0) + positions.select(1, 0))));
    assert!(table.narrow(1, 1, 64).equal(&positions.narrow(1, 1, 64)));
}

#[test]
fn switches_of_the_model_change_its_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let done = phantom(&at("ignored"), false, &["model.lateral=\"ignored\""]).unwrap();
    assert!(done.notes[0].contains("image_lateral.onnx left out"), "{:?}", done.notes);
    assert!(at("ignored/image.onnx").exists() && !at("ignored/image_lateral.onnx").exists());

    let changes = ["model.lateral=\"frontal\"", "model.semantics=\"reference\"", "model.text.positions=\"zero\""];
    phantom(&at("other"), false, &changes).unwrap();
    let graph = read(&at("other/image_lateral.onnx"));
    assert!(graph.weights.keys().all(|name| !name.contains("lateral_expert")));
    let graph = read(&at("other/text.onnx"));
    assert_eq!(graph.weights["report_encoder.embeddings.positions"].1, [1, 128]);
    assert!(graph.operators().contains("GreaterOrEqual"), "the reference loses the end of a full window");
}

/// The shipped model with the head of a fine-tuned one.
fn tuned(out: &Path, task: HeadTask, labels: &[&str], classes: &[&str]) -> MedSt {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let config = HeadConfig { task, labels: words(labels), classes: words(classes) };
    let Headed { model, card, pieces, filled } =
        with_head(&[Input::whole("phantom")], config, 1, Device::Cpu, Kind::Float).unwrap();
    for own in model.parameters().iter().filter(|own| own.name.starts_with("task_head.")) {
        let wave = (Tensor::arange(own.tensor.numel() as i64, (Kind::Float, Device::Cpu)) * 1.3).sin();
        own.fill(&wave.view_as(&own.tensor));
    }
    let request = Request { out: out.to_path_buf(), ..Request::default() };
    write(&request, &model, &card, &pieces, &filled).unwrap();
    model
}

#[test]
fn the_head_of_a_fine_tuned_model_is_an_output_or_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let export = |name: &str, int8| {
        let out = at(&format!("{name}-{int8}"));
        let inputs = vec![Input::whole(at(name))];
        convert(&Request { inputs, out: out.clone(), to: Target::Onnx, int8, ..Request::default() }).unwrap();
        let told: Value = serde_json::from_slice(&fs::read(out.join("graphs.json")).unwrap()).unwrap();
        (out, told)
    };
    let features = (Tensor::arange(4 * 128, (Kind::Float, Device::Cpu)) * 0.7).sin().view([4, 128]);
    let three = ["improving", "stable", "worsening"];
    let logits =
        |graph: &Read, x: &Tensor| x.matmul(&graph.tensor("task_head.weight")) + graph.tensor("task_head.bias");
    let same = |ours: &Tensor, theirs: &Tensor| assert!(ours.allclose(theirs, 1e-5, 1e-5, false), "{ours} {theirs}");

    let findings = tuned(&at("findings"), HeadTask::Findings, &["edema", "pneumonia"], &[]);
    let exclusive = tuned(&at("exclusive"), HeadTask::Exclusive, &["class"], &three);
    for (name, model) in [("findings", &findings), ("exclusive", &exclusive)] {
        let head = model.head().unwrap();
        // The head is not in 8 bits.
        for int8 in [false, true] {
            let (out, told) = export(name, int8);
            assert_eq!(told["head"]["outputs"], serde_json::json!(head.config.names()));
            assert_eq!(told["card"]["model"]["head"]["task"], name);
            assert!(!out.join("change.onnx").exists());
            for file in ["image.onnx", "image_lateral.onnx"] {
                let graph = read(&out.join(file));
                let (output, element, shape) = graph.outputs.last().unwrap();
                assert_eq!((output.as_str(), *element), ("predict", 1));
                assert_eq!(shape, &["batch".to_string(), head.config.outputs().to_string()]);
                assert!(told["graphs"][file]["outputs"]["predict"]["meaning"].is_string());
                let made = match head.config.task {
                    HeadTask::Findings => logits(&graph, &features).sigmoid(),
                    _ => logits(&graph, &features).softmax(1, None::<Kind>),
                };
                same(&made, &head.probabilities(&features));
                let last = if head.config.task == HeadTask::Findings { "Sigmoid" } else { "Softmax" };
                let node =
                    graph.nodes.iter().find(|node| node.outputs[0].starts_with("task_head.") && node.operator == last);
                assert!(node.is_some(), "{file}");
            }
        }
    }

    let change = tuned(&at("change"), HeadTask::Change, &["edema", "pneumonia"], &three);
    let (out, told) = export("change", true);
    assert_eq!(told["head"]["outputs"][5], "pneumonia, worsening");
    assert!(told["graphs"]["image.onnx"]["outputs"]["predict"].is_null());
    let graph = read(&out.join("change.onnx"));
    let names = |ports: &[(String, i64, Vec<String>)]| ports.iter().map(|port| port.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&graph.inputs), ["current", "previous"]);
    assert_eq!(graph.outputs, [("predict".to_string(), 1, ["batch", "6"].map(String::from).to_vec())]);
    let inputs = |operator: &str| &graph.nodes.iter().find(|node| node.operator == operator).unwrap().inputs;
    assert_eq!(inputs("Sub"), &["current", "previous"]);
    assert_eq!(inputs("Concat"), &["current", "previous", "change"]);
    // Of two pairs: the first study of each is the previous one.
    let pairs = features.view([2, 2, 128]);
    let (previous, current) = (pairs.select(1, 0), pairs.select(1, 1));
    let x = Tensor::cat(&[&current, &previous, &(&current - &previous)], 1);
    let made = logits(&graph, &x).view([2, 2, 3]).softmax(2, None::<Kind>).view([2, 6]);
    same(&made, &change.head().unwrap().probabilities(&features));

    // Of a side of the model the head is left out, and the card promises none.
    let inputs = vec![format!("image={}", at("findings").display()).parse().unwrap()];
    convert(&Request { inputs, out: at("image"), to: Target::Onnx, ..Request::default() }).unwrap();
    let told: Value = serde_json::from_slice(&fs::read(at("image/graphs.json")).unwrap()).unwrap();
    assert!(told["head"].is_null() && told["card"]["model"]["head"].is_null(), "{}", told["card"]["model"]);
}

#[test]
fn what_is_random_is_left_out_and_nothing_at_all_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let export = |inputs: &[String], out: &str| {
        let inputs = inputs.iter().map(|input| input.parse().unwrap()).collect();
        convert(&Request { inputs, out: at(out), to: Target::Onnx, ..Request::default() })
    };
    let done = export(&["image=phantom".into()], "image").unwrap();
    assert!(done.notes.iter().any(|note| note.contains("text.onnx left out")), "{:?}", done.notes);
    let mut names: Vec<_> = fs::read_dir(at("image")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["SHA256SUMS", "graphs.json", "image.onnx", "image_lateral.onnx"]);

    let done = export(&["text=phantom".into()], "text").unwrap();
    assert!(done.notes.iter().any(|note| note.contains("image.onnx and image_lateral.onnx left out")));
    assert!(at("text/text.onnx").exists() && at("text/vocab.txt").exists() && !at("text/ground.onnx").exists());

    let vit = fixture("vit").display().to_string();
    let error = export(&[vit], "nothing").unwrap_err().to_string();
    assert!(error.contains("global projection of images") && error.contains("report encoder"), "{error}");
    assert!(!at("nothing").exists());
}
