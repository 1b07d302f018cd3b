//! The registry that Kaniko finds its base images in: what `fetch` has brought, on loopback, for reading.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    thread,
};

use assay_registry::{Descriptor, Layout, Reference, Shelf};

use crate::fetch;

/// A registry that answers as long as this process lives.
#[derive(Debug)]
pub(crate) struct Bases {
    pub(super) address: SocketAddr,
    /// The registries that it stands for, as Kaniko names them. One's number is the first word of its repositories here:
    /// a host's own name may have letters that no repository has.
    pub(super) hosts: Vec<String>,
    /// Each tells what made its layers.
    pub(super) have_history: bool,
}

impl Bases {
    /// Serves the images of a layout that `fetch` has made, by the names that the Dockerfile has for them.
    pub(super) fn serve(layout: Layout, names: &[String]) -> io::Result<Self> {
        let images: BTreeMap<_, _> = layout.images()?.into_iter().collect();
        let mut shelf = Shelf::new(layout);
        let (mut hosts, mut have_history) = (Vec::new(), true);
        for (number, name) in names.iter().enumerate() {
            let image = images.get(&fetch::name(number));
            let (image, reference) = image
                .zip(Reference::parse(name))
                .ok_or_else(|| io::Error::other(format!("the base image {name} was not fetched")))?;
            have_history &= has_history(shelf.layout(), image)?;
            let host = place(&mut hosts, &reference.host);
            let repository = format!("{}/{}", prefix(host), reference.repository);
            shelf.put(&repository, &reference.version, image.clone());
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new().name("bases".to_owned()).spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    shelf.serve(listener).await;
                }
            });
        })?;
        Ok(Self {
            address,
            hosts,
            have_history,
        })
    }

    /// Where Kaniko has to look instead, for each registry.
    pub(super) fn maps(&self) -> impl Iterator<Item = String> {
        let hosts = self.hosts.iter().enumerate();
        hosts.map(|(number, host)| format!("{host}={}/{}", self.address, prefix(number)))
    }
}

fn has_history(layout: &Layout, image: &Descriptor) -> io::Result<bool> {
    let (manifest, image) = layout.image(image)?;
    let told = image.history.iter().filter(|step| !step.empty_layer).count();
    Ok(told == manifest.layers.len())
}

fn prefix(host: usize) -> String {
    format!("h{host}")
}

/// The number of a registry by the name that Kaniko has for it.
fn place(hosts: &mut Vec<String>, host: &str) -> usize {
    let name = match host {
        "docker.io" => "index.docker.io",
        other => other,
    };
    hosts.iter().position(|known| known == name).unwrap_or_else(|| {
        hosts.push(name.to_owned());
        hosts.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use assay_core::digest::Digest;
    use assay_registry::{Client, Registries};
    use serde_json::json;

    use super::*;

    fn put(layout: &Layout, value: &serde_json::Value) -> Descriptor {
        let text = value.to_string();
        let digest = Digest::of(&text);
        fs::write(layout.blob(&digest), &text).unwrap();
        serde_json::from_value(json!({ "digest": digest.to_string(), "size": text.len() })).unwrap()
    }

    /// An image of one layer that nobody reads.
    fn image(layout: &Layout, name: &str, history: &serde_json::Value) -> Descriptor {
        let config = put(layout, &json!({ "author": name, "history": history }));
        put(layout, &json!({ "config": config, "layers": [{ "digest": "" }] }))
    }

    #[tokio::test]
    async fn each_name_of_the_dockerfile_leads_to_its_own_image() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let names = [
            "debian:12",
            "r.example:5000/a/b:1",
            "docker.io/me/tool",
            "other.example/a/b:1",
        ];
        let images: Vec<_> = names
            .iter()
            .map(|name| image(&layout, name, &json!([{}])))
            .collect();
        let index = images.iter().cloned().enumerate();
        let index: Vec<_> = index
            .map(|(number, image)| (fetch::name(number), image))
            .collect();
        layout.write_index(&index).unwrap();
        let names = names.map(str::to_owned);
        let bases = Bases::serve(layout, &names).unwrap();
        let address = bases.address;
        let maps: Vec<_> = bases.maps().collect();
        assert_eq!(
            maps,
            [
                format!("index.docker.io={address}/h0"),
                format!("r.example:5000={address}/h1"),
                format!("other.example={address}/h2"),
            ]
        );
        let client = Client::new(Registries {
            mirrors: [(address.to_string(), format!("http://{address}"))].into(),
            ..Registries::default()
        });
        for (name, image) in [
            ("h0/library/debian:12", 0),
            ("h1/a/b:1", 1),
            ("h0/me/tool:latest", 2),
            ("h2/a/b:1", 3),
        ] {
            let reference = Reference::parse(&format!("{address}/{name}")).unwrap();
            let found = client.repository(&reference).manifest(&reference.version).await;
            assert_eq!(found.unwrap().0.to_string(), images[image].digest, "{name}");
        }
    }

    #[test]
    fn a_base_that_does_not_tell_its_history_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        for (history, told) in [
            (json!([{ "empty_layer": true }, { "created_by": "x" }]), true),
            (json!([]), false),
            (json!([{ "empty_layer": true }]), false),
        ] {
            let image = image(&layout, "x", &history);
            layout.write_index(&[(fetch::name(0), image)]).unwrap();
            let bases = Bases::serve(layout.clone(), &["debian:12".to_owned()]).unwrap();
            assert_eq!(bases.have_history, told, "{history}");
        }
    }

    #[test]
    fn a_base_that_nobody_brought_is_told_before_anything_runs() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        layout.write_index(&[]).unwrap();
        let error = Bases::serve(layout, &["debian:12".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("debian:12"), "{error}");
    }
}
