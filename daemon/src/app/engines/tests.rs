use edgeward_kernels::adapter::{AdapterKind, ENGINE, Probed};

use super::*;

fn probed(name: &str, kind: AdapterKind, fault: Option<&str>) -> Probed {
    Probed {
        adapter: Adapter {
            name: name.to_owned(),
            kind,
            pci: "0000:01:00.0".to_owned(),
            vendor: 1,
            device: 2,
            driver: "a driver".to_owned(),
            driver_info: "1.0".to_owned(),
            max_buffer_bytes: 1 << 30,
            max_binding_bytes: 1 << 27,
            max_shared_bytes: 1 << 15,
        },
        fault: fault.map(str::to_owned),
    }
}

fn report() -> ProbeReport {
    ProbeReport {
        adapters: vec![
            probed(
                "Big Card",
                AdapterKind::Discrete,
                Some("it answers wrong numbers"),
            ),
            probed("Small Chip", AdapterKind::Integrated, None),
            probed("llvmpipe", AdapterKind::Cpu, None),
        ],
    }
}

#[test]
fn the_first_that_works_and_is_wanted_is_taken() {
    let chosen = choose(report(), &Wanted::default()).unwrap();
    assert_eq!(chosen.name, "Small Chip");
    let wanted = Wanted {
        kind: Some(AdapterKind::Cpu),
        ..Wanted::default()
    };
    assert_eq!(choose(report(), &wanted).unwrap().name, "llvmpipe");
    let wanted = Wanted {
        name: Some("small".to_owned()),
        ..Wanted::default()
    };
    assert_eq!(choose(report(), &wanted).unwrap().name, "Small Chip");
}

#[test]
fn what_stands_in_the_way_of_each_is_said() {
    let wanted = Wanted {
        kind: Some(AdapterKind::Discrete),
        ..Wanted::default()
    };
    let reason = choose(report(), &wanted).unwrap_err();
    assert_eq!(
        reason,
        "no adapter can be used: Big Card: it answers wrong numbers; \
         Small Chip is not what the profile wants; llvmpipe is not what the profile wants"
    );
    let none = ProbeReport { adapters: vec![] };
    let reason = choose(none, &Wanted::default()).unwrap_err();
    assert_eq!(reason, "this machine has no Vulkan driver with an adapter");
}

#[test]
fn without_a_probe_the_engine_refuses_by_name() {
    let engines = compiled_in();
    let gpu = engines.iter().find(|engine| engine.name() == ENGINE);
    let model = edgeward_kernels::engine::ModelFile {
        path: "nowhere.onnx".into(),
        digest: edgeward_base::digest::Digest::of(b""),
        form: edgeward_kernels::engine::ModelForm::Onnx,
        text: None,
    };
    let refused = gpu.unwrap().load(&model).unwrap_err().to_string();
    assert!(refused.contains("its adapters were not tried"), "{refused}");
}
