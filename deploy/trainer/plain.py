#!/usr/bin/env python3
"""The least that trains: logistic or linear regression by gradient descent, without any package. Weights: one for each column of x,
then the intercept."""
import math

import concordat_trainer as node


def main():
    task = node.begin("plain", ("tabular-classification", "tabular-regression"))
    classes = task.task == "tabular-classification"
    if task.start:
        node.finish([0.0] * (task.width + 1))
        return
    data, before = node.rows(), node.weights()
    x, y, width = data["x"], data["y"], task.width
    w = list(before)
    for epoch in range(task.epochs):
        gradient = [0.0] * (width + 1)
        for row in range(task.rows):
            at = row * width
            z = w[width] + sum(w[j] * x[at + j] for j in range(width))
            guess = 1 / (1 + math.exp(-max(-30.0, min(30.0, z)))) if classes else z
            error = guess - y[row]
            for j in range(width):
                gradient[j] += error * x[at + j]
            gradient[width] += error
        for j in range(width + 1):
            w[j] -= task.learning_rate * gradient[j] / task.rows
        node.progress(epoch + 1, task.epochs)
    node.finish([after - start for after, start in zip(w, before)])


main()
