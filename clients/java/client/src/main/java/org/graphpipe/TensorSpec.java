package org.graphpipe;

import java.util.Arrays;
import java.util.Objects;

/**
 * What a model says about one of its inputs or outputs.
 *
 * @param name the name to ask for
 * @param description text for people, maybe empty
 * @param shape elements along each axis, outermost first; -1 where it varies. Empty means a scalar,
 *     or that the server does not know.
 * @param type the element type; {@link Type#NULL} where the server does not know
 */
public record TensorSpec(String name, String description, long[] shape, Type type) {
  /**
   * Keeps a copy of {@code shape}.
   *
   * @param name the name to ask for
   * @param description text for people
   * @param shape elements along each axis; -1 where it varies
   * @param type the element type
   * @throws IllegalArgumentException if {@code shape} has more than 32 axes or one below -1
   */
  public TensorSpec {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(description, "description");
    Objects.requireNonNull(type, "type");
    shape = shape.clone();
    if (shape.length > Limits.AXES_MAX) {
      throw new IllegalArgumentException(
          "expected at most " + Limits.AXES_MAX + " axes, got " + shape.length);
    }
    for (long axis : shape) {
      if (axis < -1) {
        throw new IllegalArgumentException("axis of length " + axis + " in the shape of " + name);
      }
    }
  }

  /**
   * The shape.
   *
   * @return a copy
   */
  @Override
  public long[] shape() {
    return shape.clone();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof TensorSpec spec
        && name.equals(spec.name)
        && description.equals(spec.description)
        && Arrays.equals(shape, spec.shape)
        && type == spec.type;
  }

  @Override
  public int hashCode() {
    return Objects.hash(name, description, Arrays.hashCode(shape), type);
  }

  @Override
  public String toString() {
    return name + ": " + type + Arrays.toString(shape);
  }
}
