//! The inputs of quantised operators: which is where, and what scales and zero points say.

use std::sync::Arc;

use tract_onnx::model::optional_inputs;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure,
};

use super::Port;
use crate::int8::Encoding;
use crate::int8::linear::Linear;

/// What an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Activations: an image, the left matrix, the first operand.
    A,
    AScale,
    AZero,
    /// Weights: filters, the right matrix, the second operand.
    B,
    BScale,
    BZero,
    Bias,
    YScale,
    YZero,
    /// Real numbers that are added to real results, one for each column.
    Added,
}

/// Which input plays which role.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    name: String,
    /// The roles that are played, in the order of the inputs.
    roles: Vec<Role>,
}

impl Inputs {
    /// Reads which of `roles`, given in the operator's order, are played in `node`.
    pub(super) fn of(node: &NodeProto, roles: &[Role]) -> TractResult<Self> {
        ensure!(
            node.input.len() <= roles.len(),
            "{} takes at most {} inputs, got {}",
            node.op_type,
            roles.len(),
            node.input.len()
        );
        let given = roles.iter().zip(optional_inputs(node));
        Ok(Self {
            name: node.op_type.clone(),
            roles: given.filter_map(|(role, at)| at.map(|_| *role)).collect(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.roles.len()
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// What plays `role`, if anything does.
    pub(super) fn find<'a, T>(&self, given: &'a [T], role: Role) -> Option<&'a T> {
        let at = self.roles.iter().position(|played| *played == role)?;
        given.get(at)
    }

    /// The place of the input that plays `role`.
    #[cfg(feature = "wgpu")]
    pub(super) fn place(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|played| *played == role)
    }

    /// The scales and zero points of the numbers in `A`, in the order they have; `None` where they change.
    #[cfg(feature = "wgpu")]
    pub(super) fn affine(
        &self,
        constants: &[Option<&Tensor>],
        along: super::linear::Along,
    ) -> TractResult<Option<super::Affine>> {
        let known = |role: Role| self.find(constants, role).copied();
        let Some(Some(scales)) = known(Role::AScale) else {
            return Ok(None);
        };
        let scales = reals(scales)?;
        let zeros = match known(Role::AZero) {
            None => vec![0; scales.len()],
            Some(None) => return Ok(None),
            Some(Some(zeros)) => self.spread(Role::AZero, wholes(zeros)?, scales.len())?,
        };
        Ok(Some(super::Affine {
            scales,
            zeros,
            along,
        }))
    }

    /// What plays `role`.
    pub(super) fn need<'a, T>(&self, given: &'a [T], role: Role) -> TractResult<&'a T> {
        self.find(given, role)
            .with_context(|| format!("{} has no {role:?}", self.name))
    }

    /// The element type and shape of what plays `role`.
    pub(super) fn port<'a>(&self, ports: &'a [Port], role: Role) -> TractResult<&'a Port> {
        self.need(ports, role)
    }

    /// These inputs without `roles`, and the places of those that stay. `None` where one of them that
    /// is played is not constant.
    pub(super) fn absorb(
        &self,
        constants: &[Option<Arc<Tensor>>],
        roles: &[Role],
    ) -> Option<(Self, TVec<usize>)> {
        let constant = |role: &Role| {
            self.find(constants, *role)
                .is_none_or(|constant| constant.is_some())
        };
        if !roles.iter().all(constant) {
            return None;
        }
        let stays = |role: &Role| !roles.contains(role);
        let kept = self.roles.iter().enumerate();
        let kept = kept.filter(|(_, role)| stays(role)).map(|(at, _)| at);
        let rest = Self {
            name: self.name.clone(),
            roles: self.roles.iter().copied().filter(stays).collect(),
        };
        Some((rest, kept.collect()))
    }

    /// The one scale in `role`.
    pub(super) fn scale(&self, given: &[&Tensor], role: Role) -> TractResult<f32> {
        let scales = reals(self.need(given, role)?)?;
        match scales.as_slice() {
            [scale] => Ok(*scale),
            _ => bail!("{} takes one {role:?}, got {}", self.name, scales.len()),
        }
    }

    /// The scales in `role`: one, or one for each of `columns`.
    pub(super) fn scales(
        &self,
        given: &[&Tensor],
        role: Role,
        columns: usize,
    ) -> TractResult<Vec<f32>> {
        let scales = reals(self.need(given, role)?)?;
        self.spread(role, scales, columns)
    }

    /// The one zero point in `role`; 0 where it is not given.
    pub(super) fn zero(&self, given: &[&Tensor], role: Role) -> TractResult<i32> {
        let Some(zeros) = self.find(given, role) else {
            return Ok(0);
        };
        match wholes(zeros)?.as_slice() {
            [zero] => Ok(*zero),
            zeros => bail!("{} takes one {role:?}, got {}", self.name, zeros.len()),
        }
    }

    /// The zero points in `role`: one, or one for each of `columns`; 0 where none is given.
    pub(super) fn zeros(
        &self,
        given: &[&Tensor],
        role: Role,
        columns: usize,
    ) -> TractResult<Vec<i32>> {
        match self.find(given, role) {
            None => Ok(vec![0; columns]),
            Some(zeros) => self.spread(role, wholes(zeros)?, columns),
        }
    }

    /// The scale and zero point of numbers of type `datum_type`.
    pub(super) fn linear(
        &self,
        given: &[&Tensor],
        scale: Role,
        zero: Role,
        datum_type: DatumType,
    ) -> TractResult<Linear> {
        Ok(Linear {
            scale: self.scale(given, scale)?,
            zero: self.zero(given, zero)?,
            encoding: encoding(&self.name, datum_type)?,
        })
    }

    fn spread<T: Copy>(&self, role: Role, values: Vec<T>, columns: usize) -> TractResult<Vec<T>> {
        match values.as_slice() {
            [one] => Ok(vec![*one; columns]),
            _ => {
                ensure!(
                    values.len() == columns,
                    "{} has {} of {role:?} for {columns} channels",
                    self.name,
                    values.len()
                );
                Ok(values)
            }
        }
    }
}

/// How bytes of this type are read.
pub(super) fn encoding(name: &str, datum_type: DatumType) -> TractResult<Encoding> {
    match datum_type {
        DatumType::I8 => Ok(Encoding::Signed),
        DatumType::U8 => Ok(Encoding::Unsigned),
        other => bail!("{name} takes int8 and uint8, got {other:?}"),
    }
}

/// The elements of a tensor of `f32`.
pub(super) fn reals(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let reals = tensor.cast_to::<f32>()?;
    Ok(reals.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// The elements of a tensor of whole numbers.
pub(super) fn wholes(tensor: &Tensor) -> TractResult<Vec<i32>> {
    let wholes = tensor.cast_to::<i32>()?;
    Ok(wholes.try_as_plain_ram()?.as_slice::<i32>()?.to_vec())
}
