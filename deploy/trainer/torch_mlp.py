#!/usr/bin/env python3
"""A small network by PyTorch (Debian's python3-torch): one hidden layer of 16, AdamW, mini-batches. In node.yaml:

    trainers:
      - {name: torch-mlp, program: [/usr/bin/python3, /usr/share/concordat/trainer/torch_mlp.py],
         read: [/usr/share/concordat/trainer], memory_mb: 8192, jit: true}
"""
import concordat_trainer as node
import torch

HIDDEN = 16


def main():
    task = node.begin("torch-mlp")  # after the import, which takes its time: the time of a round begins with the task
    torch.manual_seed(task.seed + task.round)
    torch.set_num_threads(task.threads)
    model = torch.nn.Sequential(torch.nn.Linear(task.width, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1))
    vector = torch.nn.utils.parameters_to_vector
    if task.start:
        node.finish(vector(model.parameters()).detach().tolist())
        return
    before = torch.tensor(node.weights())
    torch.nn.utils.vector_to_parameters(before.clone(), model.parameters())
    data = node.rows()
    x = torch.tensor(data["x"]).reshape(task.rows, task.width)
    y = torch.tensor(data["y"], dtype=torch.float32)
    descent = torch.optim.AdamW(model.parameters(), lr=task.learning_rate)
    for epoch in range(task.epochs):
        for batch in torch.randperm(task.rows).split(task.batch):
            descent.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(model(x[batch]).squeeze(1), y[batch]).backward()
            descent.step()
        node.progress(epoch + 1, task.epochs)
    node.finish((vector(model.parameters()).detach() - before).tolist())


main()
