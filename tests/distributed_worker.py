"""One process of a tiny training run under torchrun; the first saves what it trained.

Arguments: folder of pictures, folder of the run, configuration (JSON), steps, optimiser.
"""

import sys
from pathlib import Path

import torch

from vrcodec.model.config import ModelConfig
from vrcodec.training.checkpoints import new_state
from vrcodec.training.data import PictureStore
from vrcodec.training.distributed import World
from vrcodec.training.loop import train
from vrcodec.training.options import TrainingOptions
from vrcodec.training.rate_distortion import RateDistortion

pictures, run, config, steps, optimizer = sys.argv[1:]
torch.set_num_threads(1)
world = World.join(torch.device("cpu"))
options = TrainingOptions(
    max_steps=int(steps),
    batch=4,
    patch=64,
    lr=3e-3,
    warmup_steps=10,
    precision="float32",
    optimizer=optimizer,
)
store = PictureStore([Path(pictures)], options.patch, world.device)
objective = RateDistortion(ModelConfig.from_json(config), store, options)
state = new_state(objective, options, world.device)
train(state, objective, options, Path(run), world=world)
if world.first:
    torch.save(state.model.state_dict(), Path(run) / "model.pt")
world.leave()
