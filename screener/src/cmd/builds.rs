//! What the command line says about building images on a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use assay_core::upstream::Secret;
use assay_engine::kubernetes::{Builds, Tool};

/// For `--engine kubernetes` and tasks that bring a Dockerfile.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Image builds on Kubernetes")]
pub struct BuildArgs {
    /// Where built images go, as nodes name it: registry.example/assay/tasks. Without it tasks have to name images.
    #[arg(long, env = "ASSAY_IMAGE_REPOSITORY", value_name = "NAME")]
    pub image_repository: Option<String>,
    /// The same repository as builders reach it.
    #[arg(long, env = "ASSAY_PUSH_REPOSITORY", value_name = "NAME")]
    pub push_repository: Option<String>,
    /// The namespace of the builders.
    #[arg(
        long,
        env = "ASSAY_BUILD_NAMESPACE",
        default_value = "assay-builds",
        value_name = "NAME"
    )]
    pub build_namespace: String,
    /// Our image that fetches, watches and pushes.
    #[arg(
        long,
        env = "ASSAY_BUILDER_IMAGE",
        value_name = "IMAGE",
        requires = "image_repository"
    )]
    pub builder_image: Option<String>,
    /// The image that Buildah is in.
    #[arg(
        long,
        env = "ASSAY_BUILDAH_IMAGE",
        value_name = "IMAGE",
        requires = "image_repository"
    )]
    pub buildah_image: Option<String>,
    /// The image that Kaniko's executor is in, by digest: Kaniko builds, and not Buildah.
    #[arg(
        long,
        env = "ASSAY_KANIKO_IMAGE",
        value_name = "IMAGE@DIGEST",
        requires = "image_repository",
        conflicts_with = "buildah_image"
    )]
    pub kaniko_image: Option<String>,
    /// A Secret of the builders' namespace (kubernetes.io/dockerconfigjson) that may push.
    #[arg(long, env = "ASSAY_PUSH_SECRET", value_name = "NAME")]
    pub push_secret: Option<String>,
    /// One with which builders pull base images.
    #[arg(long, env = "ASSAY_BASE_SECRET", value_name = "NAME")]
    pub base_secret: Option<String>,
    /// Credentials (.dockerconfigjson) with which the screener itself asks registries.
    #[arg(long, env = "ASSAY_REGISTRY_LOGIN", value_name = "FILE")]
    pub registry_login: Option<PathBuf>,
    /// The most memory that a build gets, MiB: one that runs out of it is tried again with twice as much.
    #[arg(long, env = "ASSAY_BUILD_MEMORY_MB", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(256..=1_048_576))]
    pub build_memory_mb: u64,
    /// The most that an image may have as it is stored, MiB.
    #[arg(long, env = "ASSAY_IMAGE_MB", default_value_t = 16384, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub image_mb: u64,
    /// Builds that this screener waits for at the same time; the others wait, first come first served.
    #[arg(long, env = "ASSAY_MOST_BUILDS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub most_builds: u32,
}

/// From a registry's host to user and password.
type Logins = std::collections::BTreeMap<String, (String, Secret)>;

impl BuildArgs {
    /// How images are built; `None` where no repository is named.
    ///
    /// # Errors
    /// A repository is named, and an image is not; or Kaniko's has no digest.
    pub fn settings(self) -> anyhow::Result<Option<Builds>> {
        let Some(repository) = self.image_repository else {
            return Ok(None);
        };
        let (tool, tool_image) = match (self.kaniko_image, self.buildah_image) {
            (Some(image), _) if image.contains("@sha256:") => (Tool::Kaniko, image),
            (Some(image), _) => bail!("--kaniko-image wants a digest (name@sha256:…), and {image} has none"),
            (None, Some(image)) => (Tool::Buildah, image),
            (None, None) => bail!("--image-repository needs --buildah-image or --kaniko-image"),
        };
        Ok(Some(Builds {
            namespace: self.build_namespace,
            program: self
                .builder_image
                .context("--image-repository needs --builder-image")?,
            tool,
            tool_image,
            push_repository: self.push_repository.unwrap_or_else(|| repository.clone()),
            repository,
            push_secret: self.push_secret,
            pull_secret: self.base_secret,
            most_memory_bytes: self.build_memory_mb << 20,
            most_image_bytes: self.image_mb << 20,
            most_at_once: self.most_builds,
        }))
    }

    /// Who the screener is at registries.
    ///
    /// # Errors
    /// The file cannot be read, or is no `.dockerconfigjson`.
    pub fn logins(&self) -> anyhow::Result<Logins> {
        let Some(file) = &self.registry_login else {
            return Ok(Logins::new());
        };
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        assay_engine::kubernetes::logins(&text).with_context(|| file.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        builds: BuildArgs,
    }

    fn read(more: &[&str]) -> Result<Option<Builds>, String> {
        let words = ["x", "--image-repository=r.example/tasks", "--builder-image=b"];
        let line = Line::try_parse_from(words.iter().chain(more)).map_err(|error| error.to_string())?;
        line.builds.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn one_builder_is_named_and_kaniko_by_its_digest() {
        let buildah = read(&["--buildah-image=q"]).unwrap().unwrap();
        assert_eq!((buildah.tool, buildah.tool_image.as_str()), (Tool::Buildah, "q"));
        assert_eq!(buildah.most_at_once, 4);
        let kaniko = read(&["--kaniko-image=k@sha256:1"]).unwrap().unwrap();
        assert_eq!(
            (kaniko.tool, kaniko.tool_image.as_str()),
            (Tool::Kaniko, "k@sha256:1")
        );
        assert!(read(&["--kaniko-image=k:v1"]).unwrap_err().contains("digest"));
        assert!(read(&["--kaniko-image=k@sha256:1", "--buildah-image=q"]).is_err());
        assert!(read(&[]).unwrap_err().contains("--kaniko-image"));
    }
}
