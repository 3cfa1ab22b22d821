"""The objectives that come with the harness, and where their classes are."""

from __future__ import annotations

SHIPPED_OBJECTIVES = {
    "quadratic_2d": "harness.objectives.quadratic_2d:Quadratic2D",
    "linear_regression": "harness.objectives.linear_regression:LinearRegression",
    "logistic_regression": "harness.objectives.logistic_regression:LogisticRegression",
    "multilayer_perceptron": "harness.objectives.multilayer_perceptron:MultilayerPerceptron",
    "convolutional_network": "harness.objectives.convolutional_network:ConvolutionalNetwork",
    "causal_transformer": "harness.objectives.causal_transformer:CausalTransformer",
    "noisy_quadratic": "harness.objectives.noisy_quadratic:NoisyQuadratic",
    "rosenbrock": "harness.objectives.rosenbrock:Rosenbrock",
    "sphere": "harness.objectives.functions_2d:Sphere",
    "booth": "harness.objectives.functions_2d:Booth",
    "matyas": "harness.objectives.functions_2d:Matyas",
    "rosenbrock_2d": "harness.objectives.functions_2d:Rosenbrock2D",
    "beale": "harness.objectives.functions_2d:Beale",
    "freudenstein_roth": "harness.objectives.functions_2d:FreudensteinRoth",
    "himmelblau": "harness.objectives.functions_2d:Himmelblau",
    "three_hump_camel": "harness.objectives.functions_2d:ThreeHumpCamel",
    "six_hump_camel": "harness.objectives.functions_2d:SixHumpCamel",
    "branin": "harness.objectives.functions_2d:Branin",
    "goldstein_price": "harness.objectives.functions_2d:GoldsteinPrice",
    "mccormick": "harness.objectives.functions_2d:McCormick",
    "styblinski_tang": "harness.objectives.functions_2d:StyblinskiTang",
    "rastrigin": "harness.objectives.functions_2d:Rastrigin",
    "ackley": "harness.objectives.functions_2d:Ackley",
    "levy": "harness.objectives.rugged_2d:Levy",
    "griewank": "harness.objectives.rugged_2d:Griewank",
    "drop_wave": "harness.objectives.rugged_2d:DropWave",
    "cross_in_tray": "harness.objectives.rugged_2d:CrossInTray",
    "eggholder": "harness.objectives.rugged_2d:Eggholder",
    "schaffer_2": "harness.objectives.rugged_2d:Schaffer2",
    "shubert": "harness.objectives.rugged_2d:Shubert",
    "langermann": "harness.objectives.rugged_2d:Langermann",
}
"""Objectives to compare optimizers on: name -> ``module:Class``."""

TASKS: dict[str, dict[str, str]] = {
    "curvature": {
        "ill_conditioned": "harness.objectives.diagnostics.curvature:IllConditioned",
        "ill_conditioned_rotated": "harness.objectives.diagnostics.curvature:IllConditionedRotated",
        "ill_conditioned_matrix": "harness.objectives.diagnostics.curvature:IllConditionedMatrix",
        "outlying_curvatures": "harness.objectives.diagnostics.curvature:OutlyingCurvatures",
        "equal_coupling": "harness.objectives.diagnostics.curvature:EqualCoupling",
        "chain": "harness.objectives.diagnostics.curvature:Chain",
        "powers": "harness.objectives.diagnostics.curvature:Powers",
        "different_powers": "harness.objectives.diagnostics.curvature:DifferentPowers",
        "zakharov": "harness.objectives.diagnostics.curvature:Zakharov",
        "dixon_price": "harness.objectives.diagnostics.curvature:DixonPrice",
        "beale_far": "harness.objectives.diagnostics.curvature:BealeFar",
        "goldstein_price_far": "harness.objectives.diagnostics.curvature:GoldsteinPriceFar",
    },
    "scale": {
        "parameter_scales": "harness.objectives.diagnostics.scale:ParameterScales",
        "gradient_scales": "harness.objectives.diagnostics.scale:GradientScales",
        "loss_scale": "harness.objectives.diagnostics.scale:LossScale",
        "swinging_scale": "harness.objectives.diagnostics.scale:SwingingScale",
        "growing_scale": "harness.objectives.diagnostics.scale:GrowingScale",
        "scale_invariant": "harness.objectives.diagnostics.scale:ScaleInvariant",
        "uncentred_inputs": "harness.objectives.diagnostics.scale:UncentredInputs",
        "unbalanced_factors": "harness.objectives.diagnostics.scale:UnbalancedFactors",
    },
    "noise": {
        "white_noise": "harness.objectives.diagnostics.noise:WhiteNoise",
        "heavy_tails": "harness.objectives.diagnostics.noise:HeavyTails",
        "correlated_noise": "harness.objectives.diagnostics.noise:CorrelatedNoise",
        "multiplicative_noise": "harness.objectives.diagnostics.noise:MultiplicativeNoise",
        "small_batches": "harness.objectives.diagnostics.noise:SmallBatches",
        "outlier_gradients": "harness.objectives.diagnostics.noise:OutlierGradients",
        "sparse_gradients": "harness.objectives.diagnostics.noise:SparseGradients",
        "quantized_gradients": "harness.objectives.diagnostics.noise:QuantizedGradients",
        "delayed_gradients": "harness.objectives.diagnostics.noise:DelayedGradients",
        "flipped_gradients": "harness.objectives.diagnostics.noise:FlippedGradients",
    },
    "landscape": {
        "strict_saddle": "harness.objectives.diagnostics.landscape:StrictSaddle",
        "plateau": "harness.objectives.diagnostics.landscape:Plateau",
        "product_chain": "harness.objectives.diagnostics.landscape:ProductChain",
        "deep_linear": "harness.objectives.diagnostics.landscape:DeepLinear",
        "bent_valley": "harness.objectives.diagnostics.landscape:BentValley",
        "largest_of": "harness.objectives.diagnostics.landscape_walls:LargestOf",
        "penalty_wall": "harness.objectives.diagnostics.landscape_walls:PenaltyWall",
        "hinge_wall": "harness.objectives.diagnostics.landscape_walls:HingeWall",
        "drifting_minimum": "harness.objectives.diagnostics.landscape_moving:DriftingMinimum",
        "circling_minimum": "harness.objectives.diagnostics.landscape_moving:CirclingMinimum",
        "sudden_flip": "harness.objectives.diagnostics.landscape_moving:SuddenFlip",
        "rotating_field": "harness.objectives.diagnostics.landscape_moving:RotatingField",
        "rippled_bowl": "harness.objectives.diagnostics.landscape_minima:RippledBowl",
        "rippled_plate": "harness.objectives.diagnostics.landscape_minima:RippledPlate",
    },
    "learning": {
        "parity": "harness.objectives.diagnostics.learning:Parity",
        "two_spirals": "harness.objectives.diagnostics.learning:TwoSpirals",
        "rare_classes": "harness.objectives.diagnostics.learning:RareClasses",
        "modular_addition": "harness.objectives.diagnostics.learning:ModularAddition",
        "sequence_parity": "harness.objectives.diagnostics.learning_sequences:SequenceParity",
        "marked_spots": "harness.objectives.diagnostics.learning_sequences:MarkedSpots",
        "plasticity": "harness.objectives.diagnostics.learning_changes:Plasticity",
        "domain_shift": "harness.objectives.diagnostics.learning_changes:DomainShift",
        "two_tasks": "harness.objectives.diagnostics.learning_changes:TwoTasks",
        "wide_linear": "harness.objectives.diagnostics.learning_matrices:WideLinear",
        "noisy_product": "harness.objectives.diagnostics.learning_matrices:NoisyProduct",
        "autoencoder": "harness.objectives.diagnostics.learning_matrices:Autoencoder",
    },
}
"""Diagnostic tasks, each of which asks one thing of an optimizer: family -> name -> class."""


def objective_references() -> dict[str, str]:
    """All objectives that come with the harness: name -> ``module:Class``."""
    tasks = {name: where for family in TASKS.values() for name, where in family.items()}
    return SHIPPED_OBJECTIVES | tasks
