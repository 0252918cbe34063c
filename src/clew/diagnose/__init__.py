"""What a model remembers, and why: gradients by lag, what it feels of changed inputs, spectra, gates, the data's own
reach, and what to try. `examine` looks at a whole model, the others at one thing each."""

from clew.diagnose.capacity import Capacity, capacity
from clew.diagnose.examine import Examined, examine
from clew.diagnose.flow import felt, horizon, of_inputs, of_states
from clew.diagnose.gates import layers, time_constants
from clew.diagnose.information import Dependency, dependency
from clew.diagnose.laws import check
from clew.diagnose.remarks import Remark, remarks
from clew.diagnose.spectra import Spectrum, spectrum
from clew.diagnose.window import Window, suggested

__all__ = [
    "Capacity",
    "Dependency",
    "Examined",
    "Remark",
    "Spectrum",
    "Window",
    "capacity",
    "check",
    "dependency",
    "examine",
    "felt",
    "horizon",
    "layers",
    "of_inputs",
    "of_states",
    "remarks",
    "spectrum",
    "suggested",
    "time_constants",
]
